from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gitops_mk.core.yamlpatch import add_component
from gitops_mk.errors import InputError


def load(text: bytes | str) -> Any:
    raw = text.decode() if isinstance(text, bytes) else text
    return next(iter(YAML(typ="safe", pure=True).load_all(raw.replace("\t", " "))), None)


def inserted(before: bytes, after: bytes) -> bytes:
    """What was put in; fails unless taking it out again gives `before`, byte for byte."""
    same = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    size = len(after) - len(before)
    assert size > 0
    assert after[same + size :] == before[same:]
    return after[same : same + size]


# Each: the file, and what it must become. `mk` is the entry.
EXACT = {
    "plain": ("resources:\n- a\n", "resources:\n- a\ncomponents:\n- mk\n"),
    "indented lists": ("resources:\n  - a\n", "resources:\n  - a\ncomponents:\n  - mk\n"),
    "deep indents": ("resources:\n    -   a\n", "resources:\n    -   a\ncomponents:\n    - mk\n"),
    "commented items stay with their list": (
        "resources:\n- a\n# - b\n",
        "resources:\n- a\n# - b\ncomponents:\n- mk\n",
    ),
    "no last newline": ("namespace: x", "namespace: x\ncomponents:\n- mk"),
    "carriage returns": ("a: b\r\nc:\r\n- d\r\n", "a: b\r\nc:\r\n- d\r\ncomponents:\r\n- mk\r\n"),
    "carriage returns, no last one": ("a: b\r\nc: d", "a: b\r\nc: d\r\ncomponents:\r\n- mk"),
    "mixed line ends": ("a: b\nc: d\r\n", "a: b\nc: d\r\ncomponents:\r\n- mk\r\n"),
    "old Mac line ends": ("a: b\rcomponents:\r- c\rd: e\r", "a: b\rcomponents:\r- c\r- mk\rd: e\r"),
    "byte order mark": ("\ufeffa: b\n", "\ufeffa: b\ncomponents:\n- mk\n"),
    "byte order mark alone": ("\ufeff", "\ufeffcomponents:\n- mk\n"),
    "empty": ("", "components:\n- mk\n"),
    "blank lines only": ("\n\n", "components:\n- mk\n\n\n"),
    "comment only": ("# nothing yet\n", "# nothing yet\ncomponents:\n- mk\n"),
    "comment only, no newline": ("# nothing yet", "# nothing yet\ncomponents:\n- mk"),
    "marker only": ("---\n", "---\ncomponents:\n- mk\n"),
    "marker with comment": ("--- # top\n...\n", "--- # top\ncomponents:\n- mk\n...\n"),
    "markers around": ("---\na: b\n...\n", "---\na: b\ncomponents:\n- mk\n...\n"),
    "a last marker": ("a: b\n---\n", "a: b\ncomponents:\n- mk\n---\n"),
    "directive": ("%YAML 1.1\n---\na: b\n", "%YAML 1.1\n---\na: b\ncomponents:\n- mk\n"),
    "trailing blank lines": ("a: b\n\n\n", "a: b\ncomponents:\n- mk\n\n\n"),
    "trailing comments": ("a: b # c\n\n# vim: ft=yaml\n", "a: b # c\n\n# vim: ft=yaml\ncomponents:\n- mk\n"),
    "whole file indented": ("  a: b\n  c:\n  - d\n", "  a: b\n  c:\n  - d\n  components:\n  - mk\n"),
    "null value, nothing written": ("components:\na: b\n", "components:\n- mk\na: b\n"),
    "null value with comment": ("components: # later\n\na: b\n", "components: # later\n- mk\n\na: b\n"),
    "null value at the end": ("a: b\ncomponents:", "a: b\ncomponents:\n- mk"),
    "null value, items commented out": ("components:\n# - x\na: b\n", "components:\n- mk\n# - x\na: b\n"),
    "null": ("components: null # none\n", "components: [mk] # none\n"),
    "tilde": ("components: ~\r\na: b\r\n", "components: [mk]\r\na: b\r\n"),
    "empty list": ("components: []\na: b\n", "components: [mk]\na: b\n"),
    "empty list, spaced": ("components: [ ] # c\n", "components: [mk ] # c\n"),
    "flow": ("components: [a, 'b'] # c\n", "components: [a, 'b', mk] # c\n"),
    "flow, trailing comma": ("components: [a, b,]\n", "components: [a, b, mk,]\n"),
    "flow, lines": (
        "components: [\n  a,\n  b\n]\n",
        "components: [\n  a,\n  b,\n  mk\n]\n",
    ),
    "flow, lines, comments, trailing comma": (
        "components: [ # all\n  a, # one\n  b, # two\n]\n",
        "components: [ # all\n  a, # one\n  b, # two\n  mk,\n]\n",
    ),
    "flow, lines, comments, no trailing comma": (
        "components: [\n  a, # one\n  b # two\n]\n",
        "components: [\n  a, # one\n  b, mk # two\n]\n",
    ),
    "block": ("components:\n- a\nb: c\n", "components:\n- a\n- mk\nb: c\n"),
    "block, indented, comments": (
        "components:\n  # first\n  - a # one\n\n  - b # two\n\n# next\nc: d\n",
        "components:\n  # first\n  - a # one\n\n  - b # two\n  - mk\n\n# next\nc: d\n",
    ),
    "block, wide dashes": ("components:\n  -   a\n", "components:\n  -   a\n  -   mk\n"),
    "block, item on the next line": ("components:\n-\n  a\nb: c\n", "components:\n-\n  a\n- mk\nb: c\n"),
    "block, anchored": ("components: &x\n- a\n", "components: &x\n- a\n- mk\n"),
    "block, tagged": ("components: !!seq\n  - a\n", "components: !!seq\n  - a\n  - mk\n"),
    "block, aliased item": ("x: &y a\ncomponents:\n- *y\n", "x: &y a\ncomponents:\n- *y\n- mk\n"),
    "block scalar item": ("components:\n- >-\n  a\n\nb: c\n", "components:\n- >-\n  a\n- mk\n\nb: c\n"),
    "block scalar item that keeps blank lines": (
        "components:\n- |+\n  a\n\nb: c\n",
        "components:\n- |+\n  a\n\n- mk\nb: c\n",
    ),
    "quoted key": ("\"components\":\n- a\n'b': c\n", "\"components\":\n- a\n- mk\n'b': c\n"),
    "explicit key": ("? components\n: [a]\n", "? components\n: [a, mk]\n"),
    "explicit key without value": ("? components\n", "? components\n: [mk]"),
    "patch without a last newline": ("p: |\n  x: y", "components:\n- mk\np: |\n  x: y"),
    "patch that keeps blank lines": ("p: |+\n  x: y\n\n", "p: |+\n  x: y\n\ncomponents:\n- mk\n"),
    "several lines of text": ("a: b\n  c\n", "a: b\n  c\ncomponents:\n- mk\n"),
    "multi-line quotes": ('a: "b\n\n  c"\n', 'a: "b\n\n  c"\ncomponents:\n- mk\n'),
    "flow file": ("{resources: [a]}\n", "{resources: [a], components: [mk]}\n"),
    "empty flow file": ("{}", "{components: [mk]}"),
    "flow file, null": ("{components: , a: b}", "{components: [mk] , a: b}"),
    "flow file, key alone": ("{components}", "{components: [mk]}"),
    "flow file, last key alone": ("{a}", "{a, components: [mk]}"),
    "JSON": (
        '{\n  "resources": [\n    "a"\n  ]\n}\n',
        '{\n  "resources": [\n    "a"\n  ],\n  "components": ["mk"]\n}\n',
    ),
    "JSON with components": (
        '{\n  "components": [\n    "a"\n  ]\n}\n',
        '{\n  "components": [\n    "a",\n    "mk"\n  ]\n}\n',
    ),
    "JSON with null": ('{"components": null}', '{"components": ["mk"]}'),
    "tabs between tokens": ("a:\tb\t# c\ncomponents:\n-\td\n", "a:\tb\t# c\ncomponents:\n-\td\n- mk\n"),
    "tabs on lines of their own": ("a: b\n\t# c\n\t\nd: e\n", "a: b\n\t# c\n\t\nd: e\ncomponents:\n- mk\n"),
    "merge key without components": (
        "x: &x {a: b}\n<<: *x\n",
        "x: &x {a: b}\n<<: *x\ncomponents:\n- mk\n",
    ),
    "field names in any case": ("Components:\n- a\n", "Components:\n- a\n- mk\n"),
    "anchored file": ("&top\na: b\n", "&top\na: b\ncomponents:\n- mk\n"),
}


@pytest.mark.parametrize("name", EXACT)
def test_every_style_gains_exactly_the_entry(name: str) -> None:
    before, after = EXACT[name]
    result = add_component(before.encode(), "mk")
    assert result.decode() == after
    assert add_component(result, "mk") == result
    assert {key.lower(): value for key, value in load(result).items()}["components"][-1] == "mk"


@pytest.mark.parametrize(
    "text",
    [
        "components:\n- mk\n",
        "components: [x, ./mk]",
        "components:\n- mk/ # ours\n- other\n",
        "components: ['mk']",
        "x: &m mk\ncomponents:\n- *m\n",
        "components:\n- .//mk/.\n",
    ],
)
def test_an_entry_that_is_there_changes_nothing(text: str) -> None:
    assert add_component(text.encode(), "mk") == text.encode()


@pytest.mark.parametrize(
    ("entry", "written"),
    [("modekeeper", "modekeeper"), ("../x", None), ("1", '"1"'), ("true", '"true"'), ("./a", "./a"), ("a/b", "a/b")],
)
def test_an_entry_that_could_be_read_as_something_else_is_quoted(entry: str, written: str | None) -> None:
    if written is None:
        with pytest.raises(InputError, match="plain relative path"):
            add_component(b"", entry)
        return
    for text in ("a: b\n", "components: []\n", "{}", "components: [x]\n"):
        result = add_component(text.encode(), entry)
        assert written in result.decode()
        assert load(result)["components"][-1] == entry


@pytest.mark.parametrize("entry", ["", "a b", "-a", "/a", "a\n", "#a", "a/../b", "x" * 300])
def test_an_entry_that_is_no_path_is_refused(entry: str) -> None:
    with pytest.raises(InputError, match="expected a plain relative path"):
        add_component(b"a: b\n", entry)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfea\x00", "not UTF-8 at byte 0"),
        ("a: b\n".encode("utf-16"), "not UTF-8"),
        (b"a: [\n", "not valid YAML at line 2 column 1"),
        (b"a: b: c\n", "not valid YAML at line 1 column 5"),
        (b"a:\n\t- b\n", "not valid YAML at line 2 column 1"),
        (b"a: \x07\n", r"not valid YAML at line 1 column 4: character U\+0007"),
        (b'a: "\\UFFFFFFFF"\n', "not valid YAML"),
        (b"components: yes\n", "is a string"),
        (b"components: true\n", "is a bool"),
        (b"a: b\n---\nc: d\n", "a second document at line 3 column 1"),
        (b"---\n---\na: b\n", "a second document at line 3 column 1"),
        (b"components: [a]\nComponents: [b]\n", "`components` at line 2 column 1 stands twice"),
        (b"components: [!!binary YQ==]\n", "holds a binary at line 1 column 14, expected paths"),
        (b"- a\n", "a list at line 1 column 1, expected a mapping"),
        (b"text\n", "a string at line 1 column 1, expected a mapping"),
        (b"null\n", "a null at line 1 column 1, expected a mapping"),
        (b"a: b\nc: d\na: e\n", "key 'a' at line 3 column 1 stands twice"),
        (b"x:\n- {a: 1, a: 2}\n", "key 'a' at line 2 column 10 stands twice"),
        (b"components: x\n", "`components` is a string at line 1 column 13"),
        (b"components: {a: b}\n", "`components` is a mapping at line 1"),
        (b"components: 'null'\n", "`components` is a string"),
        (b"components: !!set [a]\n", "a value with the tag tag:yaml.org,2002:set"),
        (b"components:\n- a\n- b: c\n", "holds a mapping at line 3 column 3, expected paths"),
        (b"components: [[a]]\n", "holds a list at line 1 column 14, expected paths"),
        (b"components:\n- a\n-\n", "holds a null"),
        (b"x: &c [a]\ncomponents: *c\n", r"is the alias \*c at line 2 column 13"),
        (b"components: &c [a]\nx: *c\n", "shared as &c at line 1"),
        (b"components: &c\nx: *c\n", "shared as &c at line 1"),
        (b"x: &x {components: [a]}\n<<: *x\n", "comes from the merge key at line 2 column 1"),
        (b"&top\na: *top\n", "stands inside the node it names"),
        (b"a: *b\n", r"alias \*b at line 1 column 4 names no anchor"),
        (b"a: " + b"[" * 40 + b"]" * 40 + b"\n", "nested deeper than 32 levels at line 1 column 35"),
        (b"a:\n" + b"- 1\n" * 30_000, "more than 20000 nodes at line 19999"),
        (b"[" * 250_000, "nested deeper than 32"),
        (b"a: " + b"x" * 300_000, "300003 bytes, expected at most 262144"),
    ],
)
def test_what_cant_be_edited_safely_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        add_component(text, "mk", what="overlay/kustomization.yaml")
    assert caught.value.message.startswith("overlay/kustomization.yaml: ")


def test_an_alias_bomb_is_counted_not_expanded() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(InputError, match="aliases grow it to more than 100000 nodes at line 5"):
        add_component("\n".join(lines).encode(), "mk")


def test_a_layout_with_no_safe_place_is_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match="found no place where 'mk' can be added") as caught:
        add_component(b"? components\n: - a\n", "mk")
    assert caught.value.hint == "add `- mk` under `components:` by hand, then run the same command again"


def test_a_key_that_is_an_alias_counts_as_that_key() -> None:
    assert add_component(b"x: &k components\n*k : [a]\n", "mk") == b"x: &k components\n*k : [a, mk]\n"


# Fragments of files as people write them; every draw is a valid kustomization.
_SECTIONS = {
    "resources": [
        "resources:\n- ../base\n- extra.yaml # more\n",
        "resources:\n  # all of it\n  - ../base\n\n  - 'extra.yaml'\n",
        'resources: [../base, "extra.yaml"]\n',
        "resources: [\n  ../base, # one\n  extra.yaml,\n]\n",
        "resources:\n    - ../base\n",
        "resources:\n-   ../base\n# - commented.yaml\n",
    ],
    "namespace": [
        "namespace: train\n",
        "namespace: 'train' # where\n",
        'namespace:   "train"\n',
        "namespace:\n  train\n",
    ],
    "namePrefix": ["namePrefix: dev-\n", "namePrefix: >-\n  dev-\n"],
    "patches": [
        "patches:\n- path: p.yaml\n- target: {kind: Job}\n  patch: |-\n    - op: add\n      value: '# no comment'\n",
        "patches:\n  - patch: |\n      kind: Deployment\n\n      # inside\n\n",
        "patches:\n- patch: >+\n    folded\n    text\n\n\n",
        "patches: []\n",
    ],
    "labels": [
        "labels:\n- pairs: &l\n    app: x\n- pairs: *l\n",
        "labels:\n- pairs:\n    app: x\n  includeSelectors: true\n",
        "labels: [{pairs: {app: x}}]\n",
    ],
    "images": ["images:\n- name: a\n  newTag: '1.0'\n", "images:\n"],
    "configMapGenerator": [
        'configMapGenerator:\n- name: c\n  literals:\n  - A=1\n  - "B=a: b # c"\n  options: {labels: {}}\n',
        "configMapGenerator:\n- name: c\n  files: [a=b.txt]\n",
    ],
    "kind": ["apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"],
}
_COMPONENTS = [
    "",
    "components:\n",
    "components: # none yet\n",
    "components: []\n",
    "components: [ ]  # c\n",
    "components: [a, './b']\n",
    "components: [a,]\n",
    "components: [\n    a, # x\n    b\n  ]\n",
    "components: [\n  a,\n  b, # y\n]\n",
    "components:\n- a\n- b # y\n",
    'components:\n  - a\n\n  # between\n  - "b"\n',
    "components:\n-  a\n-  >-\n   b\n",
]
_NOISE = ["", "", "", "\n", "# comment\n", "\n# - looks: like\n#   yaml\n\n", "#\n"]


@st.composite
def kustomizations(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from(sorted(_SECTIONS)), unique=True, max_size=6))
    blocks = [draw(st.sampled_from(_SECTIONS[name])) for name in names]
    blocks.insert(draw(st.integers(0, len(blocks))), draw(st.sampled_from(_COMPONENTS)))
    text = "".join(draw(st.sampled_from(_NOISE)) + block for block in blocks) + draw(st.sampled_from(_NOISE))
    text = draw(st.sampled_from(["", "", "---\n", "# head\n---\n", "--- # c\n"])) + text
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    elif text.startswith("---") and draw(st.booleans()):
        text += "...\n"
    ends = draw(st.sampled_from(["\n", "\n", "\r\n", "mixed"]))
    if ends == "mixed":
        pick = random.Random(draw(st.integers(0, 99)))
        text = "".join(pick.choice(["\n", "\r\n"]) if c == "\n" else c for c in text)
    else:
        text = text.replace("\n", ends)
    return (draw(st.sampled_from(["", "", "", "\ufeff"])) + text).encode()


@given(kustomizations())
@settings(max_examples=300, deadline=None)
def test_generated_files_gain_the_entry_and_nothing_else(text: bytes) -> None:
    result = add_component(text, "modekeeper")
    span = inserted(text, result)
    assert span.count(b"modekeeper") == 1
    before = load(text) or {}
    after = load(result)
    assert after.pop("components") == [*(before.pop("components", None) or []), "modekeeper"]
    assert after == before
    assert add_component(result, "modekeeper") == result
    assert result.endswith((b"\n", b"\r\n")) == text.endswith((b"\n", b"\r\n")) or not text.strip(b"\xef\xbb\xbf")


@given(st.text(alphabet=st.sampled_from(list("ab:-?#[]{},&*!|>'\"%@` \t\n\r\ufeff.~<0\u2028\x85\x00")), max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_edited_or_refused(text: str) -> None:
    try:
        result = add_component(text.encode(), "mk")
    except InputError:
        return
    assert b"mk" in result
