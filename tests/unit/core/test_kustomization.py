from __future__ import annotations

import pytest

from gitops_mk.core import kustomization
from gitops_mk.core.kustomization import closure, fields, kustomization_path
from gitops_mk.errors import InputError

PREFIX = "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: x}\nprefix: a-\n"


def tree(**files: str) -> dict[str, bytes]:
    """`base__kustomization="…"` is base/kustomization.yaml; other suffixes are kept."""
    named = {}
    for name, text in files.items():
        path = name.replace("__", "/")
        if path.endswith("kustomization"):
            path += ".yaml"
        named[path] = text.encode()
    return named


def overlay(text: str, **files: str) -> dict[str, bytes]:
    return tree(o__kustomization=text, **files) | {
        "o/d.yaml": b"kind: X\n",
        "o/f.env": b"A=1\n",
        "base/d.yaml": b"kind: Y\n",
    }


def read(text: str, **files: str) -> set[str]:
    return set(closure(overlay(text, **files), "o").files) - {"o/kustomization.yaml"}


def test_resources_bases_and_components_are_followed() -> None:
    files = overlay(
        "resources: [d.yaml, ../base]\ncomponents:\n- part\n",
        base__kustomization="bases:\n- ./sub/\nresources:\n- d.yaml\n",
        base__sub__kustomization="",
        o__part__kustomization="kind: Component\npatches:\n- path: p.yaml\n",
    ) | {"o/part/p.yaml": b"x: 1\n", "other/kustomization.yaml": b""}
    found = closure(files, "o")
    assert found.directories == {"o", "base", "base/sub", "o/part"}
    assert found.files == set(files) - {"o/f.env", "other/kustomization.yaml"}
    assert found.overlay == "o"


def test_the_root_may_be_the_overlay_and_cycles_end() -> None:
    files = {"kustomization.yaml": b"resources: [sub]\n", "sub/kustomization.yml": b"resources: [..]\n"}
    assert closure(files, ".").directories == {".", "sub"}
    assert closure({"Kustomization": b"resources: [./]\n"}, ".").files == {"Kustomization"}


@pytest.mark.parametrize(
    "text",
    [
        "patches: [{path: d.yaml}]",
        "patches: [{patch: 'a: b'}, {Path: d.yaml}]",
        "patchesJson6902: [{path: ./d.yaml, target: {}}]",
        "patchesStrategicMerge:\n- d.yaml\n- |-\n  a: b\n- '{a: b}'\n",
        "replacements: [{path: d.yaml}, {source: {}}]",
        "configMapGenerator: [{files: [key=d.yaml]}]",
        "secretGenerator: [{files: [d.yaml]}, {literals: [a=b]}]",
        "crds: [d.yaml]",
        "configurations: [d.yaml]",
        "openapi: {path: d.yaml}",
        "RESOURCES: [d.yaml]",
        "re\u017fources: [d.yaml]",
        "x: &x {resources: [d.yaml]}\n<<: *x\n",
        "x: &x {resources: [d.yaml]}\n<<: [*x, {resources: [../elsewhere]}]\n",
        "x: &x d.yaml\nresources: [*x]\n",
        "resources: [!!str d.yaml]\nnamePrefix:\n~: x\n",
        'resources: ["\\x64.yaml"]',
    ],
)
def test_every_way_to_name_a_file_is_seen(text: str) -> None:
    assert read(text) == {"o/d.yaml"}


def test_env_files_are_seen_too() -> None:
    assert read("configMapGenerator: [{envs: [f.env]}]\n") == {"o/f.env"}
    assert read("secretGenerator: [{env: f.env}]\n") == {"o/f.env"}


@pytest.mark.parametrize(
    "entry",
    [
        "https://example.com/x.yaml",
        "HTTP://example.com/x",
        "git::https://example.com/x",
        "ssh://git@example.com/x",
        "git@example.com:org/repo.git//path",
        "org-1@example.com/x",
        "gh:org/repo",
        "github.com/org/repo//path?ref=v1",
        "GitHub.com/org/repo",
        "example.com/org/repo.git/path",
        "example.com/project/_git/repo",
        "example.com/org//repo",
        "file:///etc/passwd",
        "s3::https://bucket/x",
        "../base?ref=main",
    ],
)
@pytest.mark.parametrize("field", ["resources: [{}]", "components: [{}]", "patches: [{{path: {}}}]", "crds: [{}]"])
def test_remote_references_are_refused(entry: str, field: str) -> None:
    text = field.format(f'"{entry}"')
    with pytest.raises(InputError, match="names the remote") as caught:
        # Even a folder of that name in the tree does not help: kustomize would try the network first.
        closure(overlay(text) | {f"o/{entry}/kustomization.yaml": b""}, "o")
    assert caught.value.hint is not None


@pytest.mark.parametrize("entry", ["https://example.com/: x", " http://example.com/{}"])
@pytest.mark.parametrize("field", ["patchesStrategicMerge", "transformers"])
def test_a_url_is_never_taken_for_inline_yaml(entry: str, field: str) -> None:
    with pytest.raises(InputError, match="names the remote"):
        closure(overlay(f"{field}: ['{entry}']"), "o")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources: [../../x]", "leaves the repository"),
        ("resources: [../..]", "leaves the repository"),
        ("resources: [/etc/passwd]", "leaves the repository"),
        ("resources: [gone.yaml]", "'o/gone.yaml' is not in the repository"),
        ("patches: [{path: gone.yaml}]", "`patches.path` names 'gone.yaml'"),
        ("components: [d.yaml]", "`components` names 'd.yaml', and 'o/d.yaml' is not"),
        ("resources: [../base]", "folder 'base' has no kustomization, expected one of kustomization.yaml"),
        ("helmCharts: [{name: x}]", "`helmcharts` inflates Helm charts"),
        ("HelmChartInflationGenerator: [{chartName: x}]", "inflates Helm charts"),
        ("helmGlobals: {chartHome: x}", "inflates Helm charts"),
        ("resources: d.yaml", "`resources` is not a list of paths"),
        ("resources: [{a: b}]", "`resources` is not a list of paths"),
        ("patches: d.yaml", "`patches` is not a list of mappings"),
        ("patches: [d.yaml]", "`patches` is not a list of mappings"),
        ("resources: []\nResources: []", "field 'Resources' stands twice"),
        ("resources: [!!binary ZC55YW1s]", "tag tag:yaml.org,2002:binary at line 1"),
        ("? [a]\n: b", "a key at line 1 column 3 is no text"),
        ("- a", "not a mapping, expected a kustomization"),
        ("a: b\n---\nc: d", "a second document at line 3"),
        ("a: [", "not valid YAML"),
        ("transformers: [gone.yaml]", "is not in the repository"),
    ],
)
def test_what_kustomize_must_not_see_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        closure(overlay(text), "o")
    assert caught.value.message.startswith(("o/kustomization.yaml: ", "base"))


def test_an_overlay_without_a_kustomization_is_named() -> None:
    with pytest.raises(InputError, match="the overlay: folder 'x' has no kustomization"):
        closure({}, "x")
    with pytest.raises(InputError, match=r"o/kustomization.yaml and o/Kustomization, expected one"):
        kustomization_path({"o/kustomization.yaml": b"", "o/Kustomization": b""}, "o")
    assert kustomization_path({}, "o") is None


def test_empty_and_comment_only_files_have_no_fields() -> None:
    assert fields({"k": b""}, "k") == {}
    assert fields({"k": b"# a\n---\n---\n"}, "k") == {}
    assert fields({"k": b"NameSpace: a\nimages:\n"}, "k") == {"namespace": "a", "images": None}


def test_deep_aliases_are_refused() -> None:
    lines = ["a0: &a0 x"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100)]
    with pytest.raises(InputError, match="aliases nest deeper than 64"):
        fields({"k": "\n".join(lines).encode()}, "k")


def test_endless_trees_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kustomization, "_MAX_KUSTOMIZATIONS", 3)
    files = {f"d{i}/kustomization.yaml": f"resources: [../d{i + 1}]\n".encode() for i in range(6)}
    with pytest.raises(InputError, match="reaches more than 3 kustomizations"):
        closure(files, "d0")


INLINE = "transformers:\n- |-\n  " + PREFIX.replace("\n", "\n  ")


def test_built_in_plugins_are_read_with_their_files() -> None:
    assert read(INLINE) == set()
    assert read("generators:\n- '{apiVersion: builtin, kind: ConfigMapGenerator, files: [a=d.yaml]}'\n") == {"o/d.yaml"}


@pytest.mark.parametrize("field", ["generators", "transformers", "validators"])
def test_plugins_may_stand_in_files_and_folders(field: str) -> None:
    files = tree(o__kustomization=f"{field}: [p.yaml, ../plugins]\n", plugins__kustomization="resources: [q.yaml]\n")
    files |= {"o/p.yaml": PREFIX.encode(), "plugins/q.yaml": b"---\n# none\n---\n" + PREFIX.encode()}
    assert closure(files, "o").files == set(files)
    for path in ("o/p.yaml", "plugins/q.yaml"):
        bad = files | {path: PREFIX.replace("builtin", "example.com/v1").encode()}
        with pytest.raises(InputError, match=f"{path}: PrefixTransformer of example.com/v1 is not a built-in plugin"):
            closure(bad, "o")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("apiVersion: builtin\nkind: HelmChartInflationGenerator\n", "not a built-in plugin"),
        ("apiVersion: someteam/v1\nkind: Exec\n", "Exec of someteam/v1 is not a built-in plugin"),
        ("kind: X\n", "X of None is not a built-in plugin"),
        ("- a\n", "None of None is not a built-in plugin"),
        (
            "apiVersion: builtin\nkind: X\nmetadata:\n  annotations:\n    config.kubernetes.io/function: exec\n",
            "X runs a function",
        ),
        (
            "apiVersion: builtin\nkind: X\nmetadata: {annotations: {config.k8s.io/function: 'container: {}'}}\n",
            "X runs a function",
        ),
        ("apiVersion: builtin\nkind: PatchTransformer\npath: https://example.com/p\n", "`path` names the remote"),
        ("apiVersion: builtin\nkind: X\nfiles: [a=http://example.com/p]\n", "`files` names the remote"),
    ],
)
def test_plugins_that_run_or_fetch_something_are_refused(config: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        closure(overlay("transformers: [d.yaml]") | {"o/d.yaml": config.encode()}, "o")
    inline = "transformers:\n- |\n" + "".join(f"  {line}\n" for line in config.splitlines())
    with pytest.raises(InputError, match=message):
        closure(overlay(inline), "o")


def test_paths_of_fields_in_a_plugin_are_no_files() -> None:
    assert read(INLINE + "fieldSpecs: [{path: metadata/name}]\n  note: |\n    path\n  path: /spec/replicas\n") == set()
