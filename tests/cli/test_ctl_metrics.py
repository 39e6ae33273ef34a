"""`gatewayctl metrics` of a real daemon, after a real update."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.containers import gatewayctl
from lab.desk import Desk, desk
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

IMAGE = random.Random(17).randbytes(20_000)
PUMP = (("app", "pump"), ("device", "pump-1"))


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("metrics")) as whole:
        whole.configure(whole.device("pump-1").config())
        whole.start()
        whole.until_state("pump-1", "idle")
        whole.publish("pump", "4.3.2", IMAGE)
        whole.until_state("pump-1", "succeeded")
        yield whole


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name.removeprefix("gatewayd_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_update_is_in_the_metrics(barn: Desk) -> None:
    found = read(barn.good("metrics"))
    assert found["transfer_sent_bytes_total", PUMP] == len(IMAGE)
    assert found["transfer_repeated_bytes_total", PUMP] == 0
    assert found["jobs_ended_total", (("app", "pump"), ("code", ""), ("result", "succeeded"))] == 1
    assert found["messages_total", (("outcome", "stored"),)] == 1
    assert found["device_state", (*PUMP, ("state", "succeeded"))] == 1
    assert found["device_update_pending", PUMP] == 0
    assert found["device_link_up", PUMP] == 1
    assert found["broker_connected", ()] == 1
    release = (("app", "pump"), ("channel", "none"), ("line", "4.3"), ("version", "4.3.2"))
    assert found["release_received_timestamp_seconds", release] >= found["start_time_seconds", ()]
    assert found["event_loop_lag_seconds_count", ()] > 0


def test_a_file_is_replaced_as_a_whole_and_goes_with_the_daemon(barn: Desk, tmp_path: Path) -> None:
    target = tmp_path / "gatewayd.prom"
    target.write_text("old")
    assert barn.good("metrics", "--output", target) == ""
    assert read(target.read_text())["broker_connected", ()] == 1
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["gatewayd.prom"]
    gone = gatewayctl("--socket", tmp_path / "nobody.sock", "metrics", "--output", target)
    assert gone.exit_code == 75
    assert not target.exists()


def test_json(barn: Desk) -> None:
    found = barn.json("metrics", "metrics")
    assert found["traffic"] == [
        {"device": "pump-1", "sent_bytes": len(IMAGE), "repeated_bytes": 0, "resumes": 0}
    ]
