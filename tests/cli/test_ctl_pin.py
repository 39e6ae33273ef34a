"""`gatewayctl pin` before a real mosquitto."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.brokers import Mosquitto, free_port
from lab.certificates import OURS, tls_broker
from lab.containers import gatewayctl
from lab.control_schema import check_printed


def test_the_pin_alone_goes_to_the_standard_output(tmp_path: Path) -> None:
    identity = OURS.vouch("barn.example")
    with tls_broker(tmp_path / "b", identity) as broker:
        ran = gatewayctl("pin", f"127.0.0.1:{broker.port}")
        assert (ran.exit_code, ran.out) == (0, f"{identity.pin}\n")
        for told in ("CN=barn.example", "trusted  no", "openssl x509", f'pins: ["{identity.pin}"]'):
            assert told in ran.err
        printed = check_printed("pin", gatewayctl("pin", f"localhost:{broker.port}", "--json").out)
        assert (printed["pin"], printed["vouched"]) == (identity.pin, False)
        assert "as " not in broker.log().partition("New connection")[2]  # nothing of MQTT was said


def test_who_is_not_there_or_no_broker(mosquitto: Mosquitto) -> None:
    for port, code in ((free_port(), "broker_unreachable"), (mosquitto.port, "no_tls_there")):
        ran = gatewayctl("pin", f"127.0.0.1:{port}", "--json")
        assert ran.exit_code == 1
        assert code in ran.out


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "plain") as broker:
        yield broker


@pytest.mark.parametrize("text", ["", ":1", "a b:1", "host:0", "host:70000", "host:port", "::1", "[::1]:x"])
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    assert gatewayctl("pin", text).exit_code == 2


def test_an_address_in_brackets() -> None:
    ran = gatewayctl("pin", f"[::1]:{free_port()}")
    assert ran.exit_code == 1
    assert "cannot be reached" in ran.err
