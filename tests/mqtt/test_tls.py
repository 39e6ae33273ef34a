"""TLS to a real mosquitto: who is trusted, who is not, and that nothing leaves before that is known."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
from lab.brokers import Mosquitto, free_port
from lab.certificates import DAY, OURS, Authority, Identity, tls_broker
from paho.mqtt.client import Client as Paho
from pydantic import SecretStr

from gatewayd import tls
from gatewayd.errors import ConfigError
from gatewayd.mqtt.connection import connect
from gatewayd.mqtt.login import BrokerError, Login
from gatewayd.tls import TlsError, Trust, make_context, parse_pin, translate_error

THEIRS = Authority("another authority")
SECRET = "hunter2-canary"  # noqa: S105 - a test's own


def login(port: int, trust: Trust | None, host: str = "localhost") -> Login:
    return Login(host, port, "gw", username="barn", password=SecretStr(SECRET), trust=trust)


async def refusal(port: int, trust: Trust | None, host: str = "localhost") -> BrokerError:
    with pytest.raises(BrokerError) as raised:
        await connect(login(port, trust, host))
    return raised.value


async def works(port: int, trust: Trust, host: str = "localhost") -> None:
    connection = await connect(login(port, trust, host))
    await connection.publish("a", b"b", retain=False)
    await connection.close()


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    (tmp_path / "our-ca.pem").write_bytes(OURS.pem)
    return tmp_path / "our-ca.pem"


async def test_a_broker_that_our_authority_vouches_for(tmp_path: Path, ca: Path) -> None:
    identity = OURS.vouch()
    with tls_broker(tmp_path / "b", identity) as broker:
        await works(broker.port, Trust(ca_file=ca))
        await works(broker.port, Trust(ca_file=ca, pins=(OURS.vouch().pin, identity.pin)))


@pytest.mark.attack(
    "another broker in its place, with any certificate but a good one",
    "unknown_ca",
    "wrong_name",
    "certificate_expired",
    "certificate_not_yet_valid",
)
@pytest.mark.parametrize(
    ("identity", "host", "code"),
    [
        (THEIRS.vouch(), "localhost", "unknown_ca"),
        (OURS.vouch("broker.example"), "localhost", "wrong_name"),
        (OURS.vouch("localhost"), "127.0.0.1", "wrong_name"),
        (OURS.vouch(starts_in=-3 * DAY), "localhost", "certificate_expired"),
        (OURS.vouch(starts_in=DAY), "localhost", "certificate_not_yet_valid"),
    ],
)
async def test_a_certificate_that_is_not_good_is_refused_and_a_pin_alone_does_not_mind(
    tmp_path: Path, ca: Path, identity: Identity, host: str, code: str
) -> None:
    with tls_broker(tmp_path / "b", identity) as broker:
        for pins in ((), (identity.pin,)):
            assert (await refusal(broker.port, Trust(ca_file=ca, pins=pins), host)).code == code
        await works(broker.port, Trust(pins=(identity.pin,)), host)
        assert "as gw" in broker.log()


async def test_without_anything_the_systems_authorities_decide(tmp_path: Path) -> None:
    with tls_broker(tmp_path / "b", OURS.vouch()) as broker:
        error = await refusal(broker.port, Trust())
        assert error.code == "unknown_ca"
        assert "ca_file" in error.hint
        assert "as gw" not in broker.log()


@pytest.mark.attack(
    "another broker in its place, with a good certificate and another key than the pinned one", "wrong_pin"
)
@pytest.mark.parametrize("has_ca", [True, False])
async def test_with_another_key_than_the_pinned_one_nothing_leaves(
    tmp_path: Path, ca: Path, has_ca: bool
) -> None:
    identity, other = OURS.vouch(), OURS.vouch()
    with tls_broker(tmp_path / "b", identity) as broker:
        error = await refusal(broker.port, Trust(ca_file=ca if has_ca else None, pins=(other.pin,)))
        assert error.code == "wrong_pin"
        assert identity.pin in str(error)  # what a person compares
        assert "as gw" not in broker.log()
    async with recorder(tmp_path, identity) as (port, received):
        assert (await refusal(port, Trust(pins=(other.pin,)))).code == "wrong_pin"
        assert bytes(received) == b""
        with pytest.raises(BrokerError):
            await connect(login(port, Trust(pins=(identity.pin,))))
        assert SECRET.encode() in received  # the recorder would have seen it


@asynccontextmanager
async def recorder(folder: Path, identity: Identity) -> AsyncIterator[tuple[int, bytearray]]:
    """A TLS server that keeps what it gets, and hangs up after the first packet."""
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(4096))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity.write(folder, "recorder"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], received


async def test_a_client_certificate_and_its_encrypted_key(tmp_path: Path, ca: Path) -> None:
    certificate, key = OURS.vouch("barn").write(tmp_path, "client", password=SECRET)
    stranger = THEIRS.vouch("barn").write(tmp_path, "stranger")
    with tls_broker(tmp_path / "b", OURS.vouch(), "require_certificate true") as broker:
        await works(broker.port, Trust(ca, certificate, key, SECRET))
        for trust in (Trust(ca), Trust(ca, *stranger)):
            error = await refusal(broker.port, trust)
            assert error.code == "client_certificate_refused", str(error)


async def test_a_refusal_that_writing_meets_before_reading_does_is_the_same_refusal(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet_the_alert(_paho: Paho, _packet: bytes) -> int:
        alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
        alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
        raise alert

    monkeypatch.setattr(Paho, "_sock_send", meet_the_alert)
    with tls_broker(tmp_path / "b", OURS.vouch()) as broker:
        error = await refusal(broker.port, Trust(ca))
        assert error.code == "client_certificate_refused", str(error)


async def test_files_that_cannot_be_used_are_told_apart(tmp_path: Path, ca: Path) -> None:
    certificate, key = OURS.vouch("barn").write(tmp_path, "client", password=SECRET)
    _, other = OURS.vouch("barn").write(tmp_path, "other")
    (tmp_path / "empty").touch()
    for trust, words in (
        (Trust(tmp_path / "empty"), "no certificate in PEM"),
        (Trust(tmp_path / "gone"), "No such file"),
        (Trust(ca, certificate, key), "the key is encrypted: give mqtt.tls.key_password_file"),
        (Trust(ca, certificate, key, "wrong"), "the key does not open with the password"),
        (Trust(ca, certificate, other), "is not the certificate's"),
        (Trust(ca, tmp_path / "empty", other), "no certificate and key in PEM"),
        (Trust(ca, tmp_path / "gone", other), "No such file"),
    ):
        with pytest.raises(TlsError, match=words) as raised:
            make_context(trust)
        assert raised.value.code == "tls_files"
        assert SECRET not in repr(trust)
        error = await refusal(free_port(), trust)
        assert (error.code, words in error.message) == ("tls_files", True)


async def test_the_wrong_port_is_told(tmp_path: Path, ca: Path, mosquitto: Mosquitto) -> None:
    error = await refusal(mosquitto.port, Trust(ca))
    assert error.code == "no_tls_there", str(error)
    with tls_broker(tmp_path / "b", OURS.vouch()) as broker:
        error = await refusal(broker.port, None)
        assert (error.code, "one without TLS" in error.hint) == ("no_connack", True)
    assert (await refusal(free_port(), Trust(ca))).code == "broker_unreachable"


class Lenient(tls._Context):  # noqa: SLF001 - as it is where neither Python nor OpenSSL chooses a version
    """A context that would speak TLS 1.0, if nobody said otherwise."""

    def __new__(cls, *arguments: int) -> Self:
        context = super().__new__(cls, *arguments)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        return context


def version_spoken(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Return what the two agree on. Raises what the client does."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, suppress(OSError), server.wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours) as agreed:
            return agreed.version()
    finally:
        thread.join()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_not_spoken(tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*OURS.vouch().write(tmp_path, "broker"))
    server.set_ciphers("DEFAULT@SECLEVEL=0")
    server.minimum_version, server.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    monkeypatch.setattr(tls, "_Context", Lenient)
    lenient, ours = Lenient(ssl.PROTOCOL_TLS_CLIENT), make_context(Trust(ca))
    for context in (lenient, ours):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert version_spoken(lenient, server) == "TLSv1.1"
    with pytest.raises(ssl.SSLError) as raised:
        version_spoken(ours, server)
    found = translate_error(raised.value, "here", datetime.now(UTC))
    assert found is not None
    assert found.code == "old_tls"


@pytest.mark.attack("a TLS handshake without an end")
async def test_a_handshake_that_is_never_answered_does_not_hold_the_loop(ca: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        connecting = asyncio.create_task(connect(login(server.getsockname()[1], Trust(ca))))
        silent, _ = await loop.sock_accept(server)
        with silent:
            assert await loop.sock_recv(silent, 1) == b"\x16"  # the handshake has begun, and the loop goes on
            assert not connecting.done()
            connecting.cancel()
            await asyncio.wait([connecting])


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32),
        ("sha256:" + ":".join(["AB"] * 32), "sha256:" + "ab" * 32),
        ("SHA256:" + "AB" * 32, "sha256:" + "ab" * 32),
        ("sha256//q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "sha256:" + "ab" * 32),
    ],
)
def test_a_pin_is_read(text: str, pin: str) -> None:
    assert parse_pin(text) == pin


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "ab" * 31, "ab" * 32, "sha256:zz", "md5:" + "ab" * 16]
)
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected sha256:"):
        parse_pin(text)


@pytest.mark.parametrize(
    "text", ["ab" * 20, "sha1:" + "ab" * 20, ":".join(["AB"] * 20), "SHA-1=" + "ab" * 20]
)
def test_smings_fingerprints_are_refused_with_a_word_on_what_to_use(text: str) -> None:
    with pytest.raises(ConfigError, match="SHA-1") as raised:
        parse_pin(text)
    assert "gatewayctl pin" in raised.value.hint
