"""A workload's names put into a PromQL expression, escaped for where they stand.

Strings and their escapes: https://prometheus.io/docs/prometheus/latest/querying/basics/#string-literals; matchers with
`=~` and `!~` hold RE2 expressions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gitops_mk.errors import InputError
from gitops_mk.model.workload import WorkloadRef

MAX_QUERY: Final = 10_000
_PLACEHOLDER = re.compile(r"\$(namespace|name|pods)\b")
# A string in any of the three quotes, or a comment, which may hold quotes of its own.
_TOKEN = re.compile(r"""(?P<comment>\#[^\n]*)|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`""")
_REGEX_MATCHERS = frozenset({"=~", "!~"})
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
# Pods' names end in these letters (k8s.io/apimachinery/pkg/util/rand, "SafeEncodeString"): no word is made of them.
_ALPHABET: Final = "[bcdfghjklmnpqrstvwxz2456789]"
# A longer name may be cut in the names of its pods. A generated name has room for 58 characters, ten of them for a ReplicaSet's
# hash; KubeRay cuts what stands before `-worker-` at 50, and some releases put `-raycluster-` into it (`utils.PodName`). Other
# controllers refuse what does not fit.
_LONGEST: Final[Mapping[str, int]] = {"Deployment": 46, "DaemonSet": 46, "Job": 46, "RayJob": 38}
# Replicated job, its index, the pod's index (JobSet, `jobs.go`); a TrainJob's pods are those of a JobSet that is called like it.
_JOB_SET: Final = f"-[a-z0-9][-a-z0-9]*-[0-9]+-[0-9]+-{_ALPHABET}{{5}}"
_PODS: Final[Mapping[str, str]] = {
    "Deployment": f"-{_ALPHABET}{{1,10}}-{_ALPHABET}{{5}}",
    "StatefulSet": "-[0-9]+",
    "DaemonSet": f"-{_ALPHABET}{{5}}",
    "Job": f"-([0-9]+-)?{_ALPHABET}{{5}}",
    "JobSet": _JOB_SET,
    "TrainJob": _JOB_SET,
    "PyTorchJob": "-(master|worker)-[0-9]+",
    # Its cluster's pods, not the one that submits it: it does not train.
    "RayJob": f"-(raycluster|{_ALPHABET}{{5}})(-[-a-z0-9.]*)?-(head|worker)(-[-a-z0-9.]+)?",
}


def names_of(ref: WorkloadRef) -> dict[str, str]:
    """What the placeholders stand for; `pods` is a regular expression for the names of the workload's pods."""
    longest = _LONGEST.get(ref.kind, len(ref.name))
    whole = regex_quoted(ref.name) + _PODS[ref.kind]
    return {
        "namespace": ref.namespace,
        "name": ref.name,
        "pods": whole if len(ref.name) <= longest else regex_quoted(ref.name[:longest]) + ".+",
    }


def filled(query: str, names: Mapping[str, str] | None, *, what: str) -> str:
    """The expression with `$namespace`, `$name` and `$pods` replaced. `names` is None where no workload is known.

    In a string behind `=~` or `!~` a name is taken literally by the regular expression; `$pods` is one itself. `what` names
    the query in errors. Raises InputError for a placeholder outside of a string, one that nothing fills, a string without
    an end, and an expression that is empty or over 10,000 characters.
    """
    if not query.strip() or len(query) > MAX_QUERY:
        raise InputError(f"{what}: expected a PromQL expression of at most {MAX_QUERY} characters")
    out, at, operator = [], 0, ""
    for token in _TOKEN.finditer(query):
        before = query[at : token.start()]
        _refuse(before, what)
        out.append(before)
        text, at = token.group(), token.end()
        # Between an operator and its string there may be a comment.
        operator = (operator + before.rstrip())[-2:]
        if token["comment"]:
            out.append(text)
            continue
        out.append(_in_string(text, names, is_regex=operator in _REGEX_MATCHERS, what=what))
        operator = ""
    _refuse(query[at:], what)
    return "".join((*out, query[at:]))


def regex_quoted(text: str) -> str:
    """The text as an RE2 expression that matches nothing else."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _refuse(text: str, what: str) -> None:
    found = _PLACEHOLDER.search(text)
    if found is not None:
        raise InputError(
            f"{what}: {found.group()} stands outside of quotes", hint=f'for example {{namespace="{found.group()}"}}'
        )
    quote = next((char for char in text if char in "\"'`"), None)
    if quote is not None:
        raise InputError(f"{what}: a string that begins with {quote} has no end", hint="close the quotes")


def _in_string(text: str, names: Mapping[str, str] | None, *, is_regex: bool, what: str) -> str:
    quote = text[0]

    def replaced(found: re.Match[str]) -> str:
        if names is None:
            raise InputError(
                f"{what}: {found.group()} stands for a workload, and none is named",
                hint="name it with --k8s-namespace and --k8s-deployment",
            )
        value = names[found[1]]
        if found[1] == "pods":
            if not is_regex:
                raise InputError(f"{what}: $pods is a regular expression", hint='write pod=~"$pods"')
        elif is_regex:
            value = regex_quoted(value)
        return _quoted(value, quote, what)

    return _PLACEHOLDER.sub(replaced, text)


def _quoted(value: str, quote: str, what: str) -> str:
    """The value as it is written inside of a string."""
    if quote == "`":
        if "`" in value:
            raise InputError(f"{what}: a name with a backtick can't stand between backticks")
        return value
    escaped = value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped)
