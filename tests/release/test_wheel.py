"""The wheel, built out of the source distribution as an index offers it, without a network."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from lab.tree import ROOT

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BESIDE = {
    "share/gatewayd/systemd/gatewayd.service": "systemd/gatewayd.service",
    "share/gatewayd/systemd/gatewayd-notify.service": "systemd/gatewayd-notify.service",
    "share/gatewayd/systemd/gatewayd-web.service": "systemd/gatewayd-web.service",
    "share/gatewayd/systemd/examples/credentials.conf": "systemd/examples/credentials.conf",
    "share/gatewayd/udev/70-gatewayd.rules": "debian/gatewayd.udev",
    "share/gatewayd/config.example.yaml": "config.example.yaml",
    "share/gatewayd/docs/protocol.md": "docs/protocol.md",
    "share/gatewayd/device/README.md": "device/README.md",
    "share/gatewayd/device/rcp.c": "device/rcp.c",
    "share/gatewayd/device/rcp.h": "device/rcp.h",
    "share/gatewayd/device/rcp_sha256.c": "device/rcp_sha256.c",
}
PAGES = (
    "share/man/man1/gatewayctl.1",
    "share/man/man5/gatewayd.yaml.5",
    "share/man/man8/gatewayd.8",
    "share/man/man8/gatewayd-web.8",
)


def build(source: Path, target: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        f"--{target}",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return made


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is in it, by name; `share/...` without the folder that wheels have it in."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(build(ROOT, "sdist", folder)) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("gatewayd-*/")
    with zipfile.ZipFile(build(source, "wheel", folder)) as archive:
        return {re.sub(r"^.+\.data/data/", "", name): archive.read(name) for name in archive.namelist()}


@pytest.fixture(name="metadata")
def _metadata(wheel: dict[str, bytes]) -> Message:
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel[name])


def test_every_module_is_in_it_and_nothing_else_of_the_tree(wheel: dict[str, bytes]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gatewayd").rglob("*.py")}
    web = ROOT / "gatewayd" / "web"
    modules |= {
        str(path.relative_to(ROOT)) for kind in ("static", "texts") for path in (web / kind).iterdir()
    }
    assert {name for name in wheel if name.startswith("gatewayd/")} == modules | {"gatewayd/py.typed"}
    others = {name.split("/")[0] for name in wheel} - {"gatewayd", "share"}
    assert all(name.endswith(".dist-info") for name in others), others


@pytest.mark.parametrize("name", BESIDE)
def test_what_belongs_to_it_is_as_in_the_tree(wheel: dict[str, bytes], name: str) -> None:
    assert wheel[name] == (ROOT / BESIDE[name]).read_bytes()


@pytest.mark.parametrize("name", PAGES)
def test_the_manual_is_in_it(wheel: dict[str, bytes], name: str) -> None:
    assert wheel[name].startswith(b".TH ")


def test_the_receiver_compiles_from_it(wheel: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in wheel.items():
        if name.startswith("share/gatewayd/device/"):
            path = tmp_path / name.removeprefix("share/gatewayd/device/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    command = ["cc", "-std=c99", "-c", "rcp.c", "rcp_sha256.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=200)


def test_it_says_what_it_is_and_where_it_is_at_home(metadata: Message) -> None:
    assert "UART or Bluetooth LE" in metadata["Summary"]
    assert metadata["Author"]
    assert {url.split(", ")[0] for url in metadata.get_all("Project-URL", [])} >= {"Repository", "Issues"}


def test_links_of_the_readme_work_without_the_files_beside_it(metadata: Message) -> None:
    text = metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    repository = PROJECT["urls"]["Repository"]
    assert [link for link in links if not re.match(r"https://|#", link)] == []
    ours = [
        link.removeprefix(f"{repository}/blob/v{metadata['Version']}/")
        for link in links
        if repository in link
    ]
    assert len(ours) > 10
    for link in ours:
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_the_address_of_the_project_is_one() -> None:
    repository = PROJECT["urls"]["Repository"]
    assert all(url.startswith(repository) for url in PROJECT["urls"].values())
    hosts = set(re.findall(r"https?://[^/\"'\s]+", (ROOT / "pyproject.toml").read_text()))
    assert hosts == {repository}
