"""Every exception the product raises on purpose; the command line turns one into `ERROR:` and `hint:`.

An exception means "could not decide". A decision that says no is a value: see `gitops_mk.model.verdict`.
"""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2


class MkError(Exception):
    """Base of all our errors.

    `message` says what was found and what was expected; `hint`, where given, what to do about it.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(MkError):
    """A file, an option or a value handed to a command can't be used."""


class ConfigError(InputError):
    """The configuration is missing, malformed, or says something that can't be."""


class StoppedError(MkError):
    """This process may not go on: it was told to stop, or lost its Lease."""


class IntegrityError(MkError):
    """Something that must match does not: a digest, a tree, a permit. Never retried."""

    exit_code = EXIT_FAILED


class PeerError(MkError):
    """Something outside (git, kustomize, a disk) failed. `retryable` says whether the same call may succeed later."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class TelemetryError(PeerError):
    """A telemetry source could not be read."""

    exit_code = EXIT_BAD_INPUT


class GitError(PeerError):
    """A git command failed."""


class ForgeError(PeerError):
    """The forge refused or could not be reached."""


class ConflictError(ForgeError):
    """A compare-and-swap lost: someone else moved the ref first. `ref` names it."""

    def __init__(self, message: str, *, ref: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, retryable=True)
        self.ref = ref


class ClusterError(PeerError):
    """The cluster could not be reached, or would not answer. `status` is HTTP's, None where there was no answer.

    `timed_out`: there was none for want of time.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        hint: str | None = None,
        retryable: bool = False,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.status = status
        self.timed_out = timed_out


class ExpiredError(ClusterError):
    """The version that a watch began from is gone (410): list again."""


class ManifestError(PeerError):
    """kustomize could not build a tree; the message carries its own words."""
