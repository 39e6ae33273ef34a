"""What gatewayd uses of aiomqtt's and paho's privates is in one file, and still exists."""

import ast
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion
from paho.mqtt.client import Client as Paho

from gatewayd.mqtt.login import Login, make_client

ROOT = Path(__file__).parents[2]
FILE = ROOT / "gatewayd" / "mqtt" / "paho_callbacks.py"
# By which names the file calls the two objects.
CLIENTS = {"client", "self._client"}
PAHOS = {"paho", "self._paho"}


def private_names(path: Path, owners: set[str]) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) in owners
    }


def packet_keys() -> set[str]:
    return {
        node.slice.value
        for node in ast.walk(ast.parse(FILE.read_text()))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        if ast.unparse(node.value) in {"packet", "paho._in_packet"} and isinstance(node.slice.value, str)
    }


@pytest.fixture
async def client() -> aiomqtt.Client:
    return make_client(Login("127.0.0.1", 1, "id"), ProtocolVersion.V5)


@pytest.fixture
async def paho(client: aiomqtt.Client) -> Paho:
    return client._client  # noqa: SLF001 - the name is what is tested


async def test_the_private_names_still_exist(client: aiomqtt.Client, paho: Paho) -> None:
    assert private_names(FILE, CLIENTS) == {"_client", "_connected", "_disconnected"}
    assert private_names(FILE, PAHOS) == {
        "_handle_pubackcomp",
        "_in_packet",
        "_ping_t",
        "_sock_close",
        "_sock_recv",
        "_sock_send",
    }
    assert [name for name in private_names(FILE, CLIENTS) if not hasattr(client, name)] == []
    assert [name for name in private_names(FILE, PAHOS) if not hasattr(paho, name)] == []


async def test_what_paho_collects_of_a_packet_has_the_keys_that_are_read(paho: Paho) -> None:
    assert {"command", "have_remaining", "packet", "remaining_count"} < packet_keys()
    assert packet_keys() <= set(paho._in_packet)  # noqa: SLF001 - as above


async def test_aiomqtt_has_set_the_callbacks_that_are_passed_on(paho: Paho) -> None:
    assert None not in (paho.on_connect, paho.on_disconnect, paho.on_message)


def reached_into(path: Path) -> Iterator[str]:
    """Yield where a file names a private attribute of another object than its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name, value=owner) if name.startswith("_") and not name.startswith("__"):
                if ast.unparse(owner) not in {"self", "cls"}:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_other_file_of_the_room_reaches_into_anything() -> None:
    others = [path for path in FILE.parent.glob("*.py") if path != FILE]
    assert [place for path in others for place in reached_into(path)] == []
    importing = {
        path
        for path in (ROOT / "gatewayd").rglob("*.py")
        if any(text in path.read_text() for text in ("import aiomqtt", "from aiomqtt", "from paho"))
    }
    elsewhere = importing - set(FILE.parent.glob("*.py"))
    assert [place for path in elsewhere for place in reached_into(path)] == []
