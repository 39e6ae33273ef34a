"""What a visitor of the project finds: how to report, in forms that the forge accepts."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.tree import ROOT

from gatewayd import __version__

FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
KINDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_have_what_the_forge_demands(path: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(path.read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in form["body"]} <= KINDS
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_the_form_for_bugs_sends_vulnerabilities_elsewhere() -> None:
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert "SECURITY.md" in text
    for command in ("gatewayctl doctor", "gatewayctl explain", "gatewayd --version"):
        assert command in text


def test_the_version_of_today_is_supported() -> None:
    minor = ".".join(__version__.split(".")[:2])
    assert re.search(
        rf"^\| [^|]*\({re.escape(minor)}\) \| yes \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE
    )
