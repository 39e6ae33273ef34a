"""No secret appears in anything that gatewayd says, whatever goes wrong."""

import base64
import random
import subprocess
import sys
from pathlib import Path

from lab.brokers import Mosquitto
from lab.certificates import OURS, tls_broker
from lab.containers import gatewayctl
from lab.desk import Desk
from lab.tree import ROOT
from paho.mqtt import subscribe

from gatewayd.ota.keys import OtaKey

SECRETS = random.Random(17)
PASSWORD = "canary-" + SECRETS.randbytes(12).hex()
KEY_PASSWORD = "canary-" + SECRETS.randbytes(12).hex()
KEY = OtaKey(SECRETS.randbytes(32), SECRETS.randbytes(32))
IMAGE = random.Random(1).randbytes(20_000)
# Prints whatever a crash would: the configuration, and a traceback with its local variables.
CRASH = """
import sys
from pathlib import Path
from rich.traceback import Traceback
from rich.console import Console
from gatewayd.config import load
settings = load(Path(sys.argv[1]))
print(repr(settings), settings.model_dump(), settings.model_dump_json())
print(settings.key_sets, settings.mqtt.trust)
try:
    mqtt, keys, trust = settings.mqtt, settings.key_sets, settings.mqtt.trust
    1 / 0
except ZeroDivisionError:
    Console(width=2000).print(Traceback(show_locals=True))
"""


def forms(secret: bytes) -> set[bytes]:
    """Return how a secret may be written."""
    return {
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        secret.hex(":").encode(),
        base64.b64encode(secret),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        repr(secret)[2:-1].encode(),
        repr(list(secret))[1:-1].encode(),
    }


CANARIES = set().union(
    *(forms(one) for one in (PASSWORD.encode(), KEY_PASSWORD.encode(), KEY.decrypt_key, KEY.seed))
)


def found_in(*everything: bytes) -> list[bytes]:
    return [canary for said in everything for canary in CANARIES if canary in said]


def test_the_canaries_would_be_found() -> None:
    for said in (f"password={PASSWORD}", f"key {KEY.decrypt_key.hex()}", repr(KEY.seed), str(list(KEY.seed))):
        assert found_in(said.encode())


def test_nothing_that_is_said_holds_a_secret(tmp_path: Path) -> None:
    certificate, key = OURS.vouch("barn").write(tmp_path, "client", password=KEY_PASSWORD)
    accounts = ("allow_anonymous false", f"password_file {tmp_path / 'accounts'}", "require_certificate true")
    (tmp_path / "accounts").touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", tmp_path / "accounts", "barn", PASSWORD], check=True)
    said: list[bytes] = []
    with tls_broker(tmp_path / "b", OURS.vouch(), *accounts) as broker:
        whole = Desk(tmp_path, broker)
        try:
            secrets = {"password": PASSWORD, "key-password": KEY_PASSWORD}
            for name, secret in secrets.items():
                (tmp_path / name).touch(0o600)
                (tmp_path / name).write_text(f"{secret}\n")
            whole.gateway.write_keys(KEY.decrypt_key, KEY.verify_key)
            whole.gateway.config["mqtt"] |= {
                "host": "localhost",
                "username": "barn",
                "password_file": "password",
                "tls": {
                    "ca_file": str(tmp_path / "b" / "ca.pem"),
                    "cert_file": str(certificate),
                    "key_file": str(key),
                    "key_password_file": "key-password",
                },
            }
            whole.configure(whole.device("pump-1").config())
            whole.start()
            (tmp_path / "ota.key").write_bytes(KEY.to_file())
            container = whole.container(IMAGE)
            ran = gatewayctl(
                "publish",
                "--config",
                tmp_path / "config.yaml",
                "--app",
                "pump",
                "--version",
                "4.3.2",
                container,
            )
            assert ran.exit_code == 0, ran.err
            said.append(f"{ran.out}{ran.err}".encode())
            whole.until_state("pump-1", "succeeded")
            said += commands(whole, container)
            said += published(tmp_path, broker)
            # A password that is refused, and files that are broken, in force and on reload.
            (tmp_path / "password").write_text(f"not-{PASSWORD}\n")
            said += [
                ran_text(whole, "reload"),
                ran_text(whole, "doctor", "--config", tmp_path / "config.yaml"),
            ]
            (tmp_path / "key-password").write_text(f"{KEY_PASSWORD}-not\n")
            (tmp_path / "decrypt.key.bin").write_bytes(KEY.decrypt_key + b"\n")
            said += [ran_text(whole, "reload"), ran_text(whole, "check-config", tmp_path / "config.yaml")]
        finally:
            whole.end()
        said.append(broker.log().encode())
    assert b"mqtt.tls" in b"".join(said)
    logs = [file for file in tmp_path.rglob("*") if file.suffix == ".log" or "state" in file.parts]
    said += [file.read_bytes() for file in logs if file.is_file()]
    assert found_in(*said) == []


def commands(whole: Desk, container: Path) -> list[bytes]:
    """Run everything that prints, with --json and without, and a crash."""
    config = whole.folder / "config.yaml"
    words: list[tuple[object, ...]] = [
        ("devices",),
        ("jobs",),
        ("job", 1),
        ("explain", "pump-1"),
        ("doctor", "--config", config),
        ("check-config", config),
        ("config", "--effective", config),
        ("fleet", "status", "--config", config, "--wait", "0.5"),
        ("reload",),
        ("push", "pump-1", container, "--version", "4.3.9"),
        *((op, "pump-1") for op in ("approve", "cancel", "retry", "pause", "resume")),
    ]
    said = [ran_text(whole, *each, *json) for each in words for json in ((), ("--json",))]
    crash = subprocess.run(
        [sys.executable, "-c", CRASH, config], cwd=ROOT, capture_output=True, check=False, timeout=200
    )
    assert b"ZeroDivisionError" in crash.stdout, crash.stderr
    return [*said, crash.stdout, crash.stderr]


def published(folder: Path, broker: Mosquitto) -> list[bytes]:
    """Return what gatewayd has the broker keep: its own status at length and in a word, and its device's."""
    certificate, key = OURS.vouch("barn").write(folder, "reader")
    kept = subscribe.simple(  # type: ignore[no-untyped-call]  # paho has not written its types down
        ["gatewayd/+/status", "gatewayd/+/gateway", "gatewayd/+/devices/+"],
        msg_count=3,
        hostname="localhost",
        port=broker.port,
        auth={"username": "barn", "password": PASSWORD},
        tls={"ca_certs": str(folder / "b" / "ca.pem"), "certfile": str(certificate), "keyfile": str(key)},
    )
    assert {message.topic.split("/")[2] for message in kept} == {"status", "gateway", "devices"}
    return [message.payload for message in kept]


def ran_text(whole: Desk, *words: object) -> bytes:
    ran = whole.run(*words)
    return f"{ran.out}{ran.err}".encode(errors="surrogateescape")
