"""The Debian package agrees with the rest: one version, the same bounds, a configuration that loads."""

import re
import tomllib
from pathlib import Path

from lab.configuration import ROOT, Lab
from suites.vm.image import DEPENDENCIES

from gatewayd import __version__
from gatewayd.config import load

DEBIAN = ROOT / "debian"
CONFIG = (DEBIAN / "config.yaml").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Debian's name where it is not python3- and Python's.
_NAMES = {
    "aiomqtt": "asyncio-mqtt",
    "pynacl": "nacl",
    "pyserial": "serial",
    "pyserial-asyncio": "serial-asyncio",
}
_NAMES |= {"pyyaml": "yaml"}


def test_there_is_one_version() -> None:
    newest = re.match(r"gatewayd \((.*?)\)", (DEBIAN / "changelog").read_text())
    assert newest
    assert newest[1] == __version__
    assert "version" in PYPROJECT["project"]["dynamic"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "gatewayd/__init__.py"


def test_the_package_wants_what_python_wants() -> None:
    control = (DEBIAN / "control").read_text()
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, _, bound = requirement.partition(">=")
        assert f" python3-{_NAMES.get(name, name)} (>= {bound}~),\n" in control


def test_the_virtual_machine_has_what_the_package_wants() -> None:
    wanted = (requirement.partition(">=")[0] for requirement in PYPROJECT["project"]["dependencies"])
    assert {f"python3-{_NAMES.get(name, name)}" for name in wanted} <= set(DEPENDENCIES)


def test_the_page_wants_what_it_wants_of_python() -> None:
    page = (DEBIAN / "control").read_text().partition("Package: gatewayd-web\n")[2]
    for requirement in PYPROJECT["project"]["optional-dependencies"]["web"]:
        name, _, bound = requirement.partition(">=")
        assert f" python3-{name} (>= {bound}~),\n" in page


def test_the_configuration_of_the_package_works_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)

    settings = load(tmp_path / "config.yaml")

    assert settings.devices == ()
    assert settings.warnings == ()


def test_what_is_commented_out_in_it_works_too(tmp_path: Path) -> None:
    Lab(tmp_path)
    (tmp_path / "password").rename(tmp_path / "mqtt-password")
    spoken = re.sub(r"^( *)#(?! \S)", r"\1", CONFIG.replace("devices: []\n", ""), flags=re.MULTILINE)
    (tmp_path / "config.yaml").write_text(spoken.replace("/etc/gatewayd", str(tmp_path)))

    settings = load(tmp_path / "config.yaml")

    assert [device.name for device in settings.devices] == ["pump-1"]
    assert settings.gateway.id == "barn-pi"
    assert settings.mqtt.trust is not None
    assert settings.warnings == ()
