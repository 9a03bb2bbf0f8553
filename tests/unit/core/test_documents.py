"""Documents that people write: an error names the file, the line and the field, and nothing is read in two ways."""

from __future__ import annotations

import pytest

from gitops_mk.adapters.resources import built_in
from gitops_mk.core import documents
from gitops_mk.core.documents import parse_json, parse_yaml
from gitops_mk.core.policy import BuiltIn, load_passport, load_policy
from gitops_mk.errors import ConfigError
from gitops_mk.model.chord import ChordCatalog
from gitops_mk.model.license import LicensePayload
from gitops_mk.model.passport import Passport
from gitops_mk.model.settings import CONFIG_PATH, RepoSettings

GOOD = b"""\
version: v1
workloads:
  - namespace: ml
    name: trainer
    overlay: overlays/prod
    world_size: 8
"""


def settings(text: bytes) -> RepoSettings:
    return parse_yaml(RepoSettings, text, what="config.yaml")


def test_reads_plain_yaml() -> None:
    loaded = settings(GOOD)
    assert loaded.workloads[0].world_size == 8
    quoted = settings(
        GOOD + b"    passport: 'safe'\n    telemetry: {source: synthetic, scenario: \"drift\", path: null}\n"
    )
    assert quoted.workloads[0].passport == "safe"
    assert quoted.workloads[0].telemetry.path is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD.replace(b"world_size: 8", b"world_size: many"), 6, "workloads.0.world_size"),
        (GOOD.replace(b"overlays/prod", b"../prod"), 5, "leaves"),
        (GOOD.replace(b"overlays/prod", b"/etc"), 5, "not a plain relative path"),
        (GOOD.replace(b"version: v1", b"version: v2"), 1, "version"),
        (GOOD.replace(b"name: trainer", b"name: '$(id)'"), 4, "workloads.0.name"),
        (GOOD + b"surprise: 1\n", 7, "surprise"),
        (GOOD.replace(b"    name: trainer\n", b""), 3, "workloads.0.name: field required"),
        (GOOD + b"version: v1\n", 7, "stands twice"),
        (GOOD + b"base_branch: &x main\n", 7, "anchors"),
        (GOOD + b"base_branch: !!python/object/apply:os.system [id]\n", 7, ""),
        (GOOD + b"base_branch: !x main\n", 7, ""),
        (GOOD + b"base_branch: !x 'main'\n", 7, "tag"),
        (GOOD + b"base_branch: 010\n", 7, "more than one way"),
        (GOOD + b"base_branch: 2026-01-01\n", 7, "more than one way"),
        (GOOD + b"base_branch: true\n", 7, "valid string"),
        (GOOD + b"base_branch: True\n", 7, "more than one way"),
        (GOOD + b"base_branch: .inf\n", 7, ""),
        (GOOD + b"? [a]\n: 1\n", 1, "no text"),
        (GOOD + b"\tbase_branch: x\n", 7, ""),
        (GOOD + b"base_branch: 'x\n", 0, ""),
        (b"- a\n", 1, ""),
        (b"version: v1\nworkloads: {}\n", 2, "workloads"),
        (b"version: v1\nworkloads:\n  - 5\n", 3, "workloads.0"),
    ],
)
def test_names_file_line_and_field(text: bytes, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert caught.value.message.startswith("config.yaml")
    if line:
        assert f"line {line}" in caught.value.message, caught.value.message
    assert said in caught.value.message


def test_odd_files() -> None:
    with pytest.raises(ConfigError, match="version: field required"):
        settings(b"")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 0"):
        settings(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="bytes, expected at most"):
        settings(b"#" * (documents.LIMITS.max_bytes + 1))
    with pytest.raises(ConfigError, match="nested deeper than 32"):
        settings(b"workloads: " + b"[" * 40 + b"]" * 40)
    with pytest.raises(ConfigError):
        settings(b"workloads: " + b"[" * 5000)
    with pytest.raises(ConfigError, match="expected plain values"):
        settings(b"defaults: &a {passport: pilot}\nforge: *a\n")
    with pytest.raises(ConfigError, match="more than 20000 nodes"):
        settings(b"workloads: [" + b"1," * 20_001 + b"]")
    with pytest.raises(ConfigError, match="config.yaml"):
        settings(b"version: v1\x00\n")
    with pytest.raises(ConfigError):
        settings(b"version: v1\n---\nversion: v1\n")


def test_floats() -> None:
    with pytest.raises(ConfigError, match="world_size"):
        settings(GOOD.replace(b"world_size: 8", b"world_size: 8.0"))
    with pytest.raises(ConfigError, match="more than one way"):
        settings(GOOD.replace(b"world_size: 8", b"world_size: .inf"))


def test_json_too() -> None:
    with pytest.raises(ConfigError, match=r"c.json line 4: chords.0.risk_tier"):
        parse_json(
            ChordCatalog,
            b'{"schema_version": "chord_catalog.v1",\n "chords": [\n  {"id": "X", "intent": "x",\n   "risk_tier": "mild",\n'
            b'   "required_signals": [], "invariants": [], "knobs_touched": []}]}',
            what="c.json",
        )
    with pytest.raises(ConfigError, match=r"c.json: key 'a' stands twice"):
        parse_json(ChordCatalog, b'{"a": 1, "a": 2}', what="c.json")


def test_a_choice_of_types_names_the_line_of_the_value() -> None:
    text = b'{"schema_version": "license.v1", "org": "o", "issued_at": 1, "expires_at": 2, "entitlements": [],\n"bindings": {"x":\n5}}'
    with pytest.raises(ConfigError, match="l.json line 2: bindings.x"):
        parse_json(LicensePayload, text, what="l.json")


class TestPolicy:
    def files(self, **more: bytes) -> dict[str, bytes]:
        return {CONFIG_PATH: GOOD, **more}

    def test_built_in(self) -> None:
        policy = load_policy(self.files().get, built_in())
        assert policy.passport(policy.settings.workloads[0]).id == "pilot"
        assert policy.catalog.get("SCALAR") is not None

    def test_all_built_in_passports_are_valid(self) -> None:
        for name, text in built_in().passports.items():
            loaded = parse_json(Passport, text, what=name)
            assert loaded.id == name
            catalog = parse_json(ChordCatalog, built_in().catalog, what="catalog")
            assert all(catalog.get(chord) for chord in loaded.allowed_chords)

    def test_none(self) -> None:
        with pytest.raises(ConfigError, match="not on the base branch"):
            load_policy(lambda path: None, built_in())

    def test_own_catalog(self) -> None:
        files = self.files(**{CONFIG_PATH: GOOD + b"catalog: c.json\n"})
        with pytest.raises(ConfigError, match="catalog 'c.json' is not on the base branch"):
            load_policy(files.get, built_in())
        files["c.json"] = built_in().catalog
        assert load_policy(files.get, built_in()).catalog.chords

    def test_own_passport_shadows_the_built_in_one(self) -> None:
        own = built_in().passports["safe"].replace(b'"id": "safe"', b'"id": "pilot"')
        files = self.files(**{".modekeeper/passports/pilot.json": own})
        policy = load_policy(files.get, built_in())
        assert policy.passport(policy.settings.workloads[0]).cooldown_s == 7200

    def test_unknown_passport(self) -> None:
        with pytest.raises(ConfigError, match="neither built in nor at"):
            load_passport("nope", lambda path: None, BuiltIn(catalog=b"", passports={}))
