from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core import yamldocs
from gitops_mk.core.yamldocs import DocumentId, Leaf, Leaves, changed_leaves, find_document, split_documents
from gitops_mk.errors import InputError

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  annotations:
    modekeeper/knob.a: "4"
    plain: 1.2.3
  name: web
  namespace: train
spec:
  replicas: 1
  template:
    metadata:
      annotations: {}
    spec:
      containers:
      - args: []
        image: x:1
        name: c
      - name: d
"""
CONFIG = """\
apiVersion: v1
data:
  script: |
    #!/bin/sh
    --- not a marker
     ---
  yes: on
kind: ConfigMap
metadata:
  name: web
"""


def parse(text: str) -> Leaves:
    found = yamldocs.parse_document(text)
    assert found is not None
    return found


def test_documents_split_at_markers_and_nowhere_else() -> None:
    text = f"# head\n---\n{DEPLOYMENT}---\n{CONFIG}...\n--- # last\na: |\n   ---\n---\n\n"
    assert split_documents(text) == [
        "# head\n",
        DEPLOYMENT.lstrip("\n"),
        CONFIG.lstrip("\n"),
        " # last\na: |\n   ---\n",
    ]
    assert split_documents("") == []
    assert split_documents("---") == []
    assert split_documents("a: b---\n----\n") == ["a: b---\n----\n"]


@pytest.mark.parametrize(("before", "after"), [("|", "|-"), ("|", "|+"), (">", ">-")])
@pytest.mark.parametrize("end", ["", "---\nkind: Y\n"])
def test_no_change_hides_at_the_end_of_a_document(before: str, after: str, end: str) -> None:
    base, head = (f"kind: X\ntext: {style}\n  a\n\n{end}" for style in (before, after))
    (changed,) = changed_leaves(base, head).changed
    assert [leaf.dotted for leaf in changed.leaves] == ["text"]
    assert not changed_leaves(base, base)


def test_a_document_is_its_leaves_and_none_is_missing() -> None:
    doc = parse(DEPLOYMENT)
    assert doc.id == DocumentId("apps/v1", "Deployment", "train", "web")
    assert dict(doc.leaves) == {
        ("apiVersion",): Leaf("str", "apps/v1"),
        ("kind",): Leaf("str", "Deployment"),
        ("metadata", "annotations", "modekeeper/knob.a"): Leaf("str", "4"),
        ("metadata", "annotations", "plain"): Leaf("plain", "1.2.3"),
        ("metadata", "name"): Leaf("str", "web"),
        ("metadata", "namespace"): Leaf("str", "train"),
        ("spec", "replicas"): Leaf("int", "1"),
        ("spec", "template", "metadata", "annotations"): Leaf("map", ""),
        ("spec", "template", "spec", "containers", 0, "args"): Leaf("list", ""),
        ("spec", "template", "spec", "containers", 0, "image"): Leaf("str", "x:1"),
        ("spec", "template", "spec", "containers", 0, "name"): Leaf("str", "c"),
        ("spec", "template", "spec", "containers", 1, "name"): Leaf("str", "d"),
    }
    assert doc.at("spec", "replicas") == Leaf("int", "1")
    assert doc.at("spec", "absent") is None


def test_aliases_stand_for_what_they_name() -> None:
    doc = parse("kind: X\na: &a\n  b: [1, 2]\nc: *a\n")
    assert doc.at("c", "b", 1) == Leaf("int", "2")
    assert doc.id == DocumentId("", "X", "", "")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a: 1", 'a: "1"', ("a", "1", "'1'")),
        ("a: yes", 'a: "yes"', ("a", "yes", "'yes'")),
        ("a: {}", "a: []", ("a", "{}", "[]")),
        ("a: {}", "a:", ("a", "{}", "null")),
        ("a: x", "b: x", ("a", "'x'", "None")),
        ("a: {1: x}", 'a: {"1": x}', ("a[!int 1]", "'x'", "None")),
        ("a: {!!str 1: x}", 'a: {"!int 1": x}', ("a[!str !int 1]", "None", "'x'")),
        ("a: [v, w]", "a: [w, v]", ("a[0]", "'v'", "'w'")),
        ("a: [x]", "a: [x, {}]", ("a[1]", "None", "{}")),
        ("a: {b/c.d: x}", "a: {b/c.d: z}", ("a[b/c.d]", "'x'", "'z'")),
    ],
)
def test_no_change_hides(before: str, after: str, expected: tuple[str, str, str]) -> None:
    changes = changed_leaves(f"kind: X\n{before}\n", f"kind: X\n{after}\n")
    found = [(c.dotted, str(c.before), str(c.after)) for c in changes.changed[0].leaves]
    assert expected in found
    assert changes


def test_layout_quotes_and_comments_are_no_change() -> None:
    before = "kind: X\na: text\nb: [1, {c: d}]\n"
    after = "# note\na: 'text' # same\nb:\n- 1\n- c: |-\n    d\nkind: X\n"
    assert not changed_leaves(before, after)


def test_changes_are_told_by_document() -> None:
    other = DEPLOYMENT.replace("name: web", "name: other")
    base = f"{DEPLOYMENT}---\n{CONFIG}---\n{other}"
    retuned = DEPLOYMENT.replace('"4"', '"8"')
    head = f"{CONFIG}---\n{retuned}---\nkind: New\n"
    changes = changed_leaves(base, head)
    assert changes.added == (DocumentId("", "New", "", ""),)
    assert [str(doc) for doc in changes.removed] == ["Deployment train/other"]
    (change,) = changes.changed
    assert str(change.id) == "Deployment train/web"
    (leaf,) = change.leaves
    assert leaf.dotted == "metadata.annotations[modekeeper/knob.a]"
    assert (leaf.before, leaf.after) == (Leaf("str", "4"), Leaf("str", "8"))


def test_documents_with_equal_text_are_not_even_parsed() -> None:
    broken = "a: [\n"
    assert not changed_leaves(f"{CONFIG}---\n{broken}", f"{broken}---\n{CONFIG}")


def test_comment_only_documents_are_ignored() -> None:
    assert not changed_leaves("# a\n---\nkind: X\n", "# b\n---\nkind: X\n")


@pytest.mark.parametrize(
    ("base", "head"),
    [
        (CONFIG, f"{CONFIG}---\n{CONFIG.replace(': on', ': off')}"),
        (CONFIG, f"{CONFIG.replace(': on', ': off')}---\n{CONFIG.replace(': on', ': y')}"),
        (f"{CONFIG}---\n{CONFIG}", f"{CONFIG}---\n{CONFIG}"),
        (f"{CONFIG}---\n{CONFIG}", CONFIG.replace(": on", ": off")),
    ],
)
def test_two_documents_of_one_identity_are_refused(base: str, head: str) -> None:
    with pytest.raises(InputError, match=r"ConfigMap web \(v1\) stands twice in the build"):
        changed_leaves(base, head)


def test_repeated_comments_and_near_twins_are_fine() -> None:
    near = CONFIG.replace("name: web", "name: web-2")
    assert not changed_leaves("# a\n---\n# a\n---\nkind: X\n", "# a\n---\n# a\n---\nkind: X\n")
    changes = changed_leaves(f"{CONFIG}---\n{near}", f"{CONFIG.replace(': on', ': off')}---\n{near}")
    assert [c.id.name for c in changes.changed] == ["web"]


def test_a_document_is_found_by_its_whole_identity() -> None:
    text = f"{CONFIG}---\n{DEPLOYMENT}"
    found = find_document(text, "apps/v1", "Deployment", "train", "web")
    assert found is not None
    assert found.at("spec", "replicas") == Leaf("int", "1")
    assert find_document(text, "apps/v1", "Deployment", None, "web") is None
    assert find_document(text, "apps/v1beta1", "Deployment", "train", "web") is None
    assert find_document(text, "v1", "ConfigMap", None, "web") is not None
    assert find_document(text, "v1", "ConfigMap", "default", "web") is not None, "none named is `default`"
    assert find_document(text, "v1", "ConfigMap", "train", "web") is None
    spaced = DEPLOYMENT.replace("namespace: train", "namespace: default")
    assert find_document(spaced, "apps/v1", "Deployment", None, "web") is not None
    with pytest.raises(InputError, match="stands twice"):
        find_document(
            f"{spaced}---\n{DEPLOYMENT.replace('  namespace: train', '')}", "apps/v1", "Deployment", None, "web"
        )
    with pytest.raises(InputError, match="stands twice"):
        find_document(f"{text}---\n# again\n{DEPLOYMENT}", "apps/v1", "Deployment", "train", "web")


def test_a_document_is_given_as_it_is_written() -> None:
    ours = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web # ours\nspec:\n  text: |\n    a\n\n    b\n"
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\ndata: {kind: Deployment}\n"
    build = other + "---\n" + ours + "---\n# nothing\n"
    found = yamldocs.document_text(build, "apps/v1", "Deployment", None, "web")
    assert found == ours
    assert yamldocs.document_text(build, "apps/v1", "Deployment", "default", "web") == ours
    assert yamldocs.document_text(build, "apps/v1", "Deployment", "ml", "web") is None
    assert yamldocs.document_text(found, "apps/v1", "Deployment", None, "web") == found
    assert parse(found) == yamldocs.find_document(build, "apps/v1", "Deployment", None, "web")
    with pytest.raises(InputError, match="twice"):
        yamldocs.document_text(ours + "---\n" + ours, "apps/v1", "Deployment", None, "web")


def test_documents_can_be_listed_by_kind() -> None:
    text = f"{CONFIG}---\n{DEPLOYMENT}---\n# ConfigMap\n"
    assert [doc.id.kind for doc in yamldocs.documents(text)] == ["ConfigMap", "Deployment"]
    assert [doc.id.kind for doc in yamldocs.documents(text, kind="ConfigMap")] == ["ConfigMap"]


def test_annotations_are_read_below_a_path() -> None:
    doc = parse(DEPLOYMENT)
    assert yamldocs.annotations_of(doc) == {"modekeeper/knob.a": "4", "plain": "1.2.3"}
    assert yamldocs.annotations_of(doc, ("spec", "template", "metadata", "annotations")) == {}
    with pytest.raises(InputError, match=r"Deployment web: metadata\.annotations\.a is 4 \(int\), expected text"):
        yamldocs.annotations_of(parse("kind: Deployment\nmetadata: {name: web, annotations: {a: 4}}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "not a mapping at line 1"),
        ("text\n", "not a mapping"),
        ("a: 1\n--- \nb: 1\n", "2 YAML documents"),
        ("a: !!set {b}\n", "tag tag:yaml.org,2002:set at line 1"),
        ("? [a]\n: b\n", "a key at line 1 column 3"),
        ("a: &a {b: c}\nd:\n  <<: *a\n", "a key at line 3"),
        ("a: b\na: c\n", "key 'a' at line 2"),
    ],
)
def test_what_is_no_kubernetes_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        yamldocs.parse_document(text)


_keys = st.text("ab", min_size=1, max_size=2)
_values = st.recursive(
    st.integers(-5, 5) | st.booleans() | st.none() | st.text("ab1-", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


@given(_values, _values)
def test_two_values_differ_exactly_when_their_leaves_do(one: object, two: object) -> None:
    import json

    base, head = (json.dumps({"kind": "X", "value": value}) for value in (one, two))
    assert bool(changed_leaves(base, head)) == (json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True))
