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
# A longer name is cut in the names of its pods: with ten characters of the ReplicaSet's hash there is room for 58.
_LONGEST: Final = 46
_PODS: Final[Mapping[str, str]] = {
    "Deployment": f"-{_ALPHABET}{{1,10}}-{_ALPHABET}{{5}}",
    "StatefulSet": "-[0-9]+",
    "DaemonSet": f"-{_ALPHABET}{{5}}",
    "Job": f"-([0-9]+-)?{_ALPHABET}{{5}}",
}


def names_of(ref: WorkloadRef) -> dict[str, str]:
    """What the placeholders stand for; `pods` is a regular expression for the names of the workload's pods."""
    ending = _PODS.get(ref.kind, "-[-a-z0-9.]+")
    return {
        "namespace": ref.namespace,
        "name": ref.name,
        "pods": regex_quoted(ref.name) + ending
        if len(ref.name) <= _LONGEST
        else regex_quoted(ref.name[:_LONGEST]) + ".+",
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
