"""Docs against code: a page that lags behind is a failure, not a nuisance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from ruamel.yaml import YAML

from gitops_mk.adapters.resources import read_template
from gitops_mk.cli.main import COMMANDS
from gitops_mk.core.checks.registry import CLUSTER_STEPS, STEPS
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.model.signal import SignalName
from gitops_mk.model.verdict import Reason
from tests import docs as made

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def headings(page: str, level: int = 2) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", (DOCS / page).read_text(), re.MULTILINE)


def test_every_reason_has_a_heading_and_no_other_is_there() -> None:
    assert sorted(headings("reasons.md")) == sorted(str(reason) for reason in Reason)


def test_every_reason_says_what_to_do() -> None:
    for part in re.split(r"^## ", (DOCS / "reasons.md").read_text(), flags=re.MULTILINE)[1:]:
        assert len(part.split("\n", 1)[1].strip()) > 30, part


def test_every_step_has_its_section_in_order() -> None:
    every = STEPS + CLUSTER_STEPS
    assert headings("verify.md")[: len(every)] == [f"{number} {ident}" for number, ident, _ in every]


def test_every_detector_has_a_section() -> None:
    assert [str(name) for name, _ in DETECTORS] == [
        h for h in headings("signals.md") if h in {str(n) for n, _ in DETECTORS}
    ]


@pytest.mark.parametrize("name", [name for name, _ in DETECTORS])
def test_every_signal_has_a_picture_that_shows_it(name: SignalName) -> None:
    text = (made.DOCS / "images" / "signals" / f"{name}.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert name.replace("_", " ") in text
    assert "onset, step" in text
    assert f"(images/signals/{name}.svg)" in (made.DOCS / "signals.md").read_text()
    assert made.example(name).found == (name,)


@pytest.mark.parametrize("path", sorted(made.pages()), ids=lambda path: path.name)
def test_made_pages_are_up_to_date(path: Path) -> None:
    assert path.read_text() == made.pages()[path], "run make docs"


def test_schema_accepts_what_is_valid_and_refuses_the_rest() -> None:
    schema = json.loads((DOCS / "config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    good = YAML(typ="safe").load(read_template("embedded/config.yaml"))
    jsonschema.validate(good, schema)
    for bad in ({**good, "surprise": 1}, {**good, "version": "v2"}, {**good, "workloads": [{"name": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_readme_fits_a_screen_and_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert len(text.splitlines()) <= 90


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_commands_in_prose_exist() -> None:
    for page in [ROOT / "README.md", *(p for p in DOCS.glob("*.md") if p.name != "cli.md")]:
        for name in re.findall(r"`mk ([a-z][a-z0-9-]+)", page.read_text()):
            assert name in COMMANDS, f"{page.name}: mk {name}"


def test_decisions_state_their_costs() -> None:
    pages = sorted(p for p in (DOCS / "adr").glob("0*.md"))
    index = (DOCS / "adr" / "README.md").read_text()
    for page in pages:
        text = page.read_text()
        assert "**Costs.**" in text, page.name
        assert page.name in index
