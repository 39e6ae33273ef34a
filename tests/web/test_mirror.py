"""What listeners hear is what the socket says, whatever happens to either end."""

from pathlib import Path

import pytest
from lab.web import MadeUpGateway, a_control_server, a_page, a_view, a_web

from gatewayd.web import app, mirror


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "RECONNECT_S", 0.01)
    monkeypatch.setattr(mirror, "LINGER_S", 0.01)
    monkeypatch.setattr(mirror, "STATUS_INTERVAL_S", 0.05)


async def test_first_everything_then_what_changes(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"), a_view("pump-2"))
    async with a_web(tmp_path, gateway) as page, page.events() as heard:
        await heard.until(lambda one: one.gateway and len(one.devices) == 2)
        assert heard.gateway is not None
        assert heard.gateway["gateway"] == "barn-pi"
        assert heard.gateway["broker"]["address"] == "broker.lan:1883"
        gateway.change(a_view("pump-1", "transferring", job=7, progress=12, bytes_per_s=900))
        await heard.until(lambda one: one.devices["pump-1"]["progress"] == 12)
        assert heard.devices["pump-2"]["state"] == "idle"
        gateway.change(removed=("pump-2",))
        await heard.until(lambda one: list(one.devices) == ["pump-1"])


async def test_each_field_of_the_socket_is_there_as_it_is(tmp_path: Path) -> None:
    view = a_view("pump-1", "failed", code="reverted", reason="it did not hold", attempt=2, resumes=1)
    async with a_web(tmp_path, MadeUpGateway(view)) as page, page.events() as heard:
        await heard.until(lambda one: one.devices)
        assert view.model_dump().items() <= heard.devices["pump-1"].items()


async def test_a_slow_listener_misses_states_and_not_the_last(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"))
    async with a_web(tmp_path, gateway) as page, page.events() as slow, page.events() as quick:
        await quick.until(lambda one: one.devices)
        for percent in range(50):
            gateway.change(a_view("pump-1", "transferring", progress=percent))
        await quick.until(lambda one: one.devices["pump-1"]["progress"] == 49)
        await slow.until(lambda one: one.devices and one.devices["pump-1"]["progress"] == 49)


async def test_a_page_that_loads_later_hears_everything_at_once(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"))
    async with a_web(tmp_path, gateway) as page, page.events() as first:
        await first.until(lambda one: one.devices and one.gateway)
        gateway.change(a_view("pump-2"), removed=("pump-1",))
        await first.until(lambda one: "pump-2" in one.devices)
        async with page.events() as second:
            await second.take()
            assert list(second.devices) == ["pump-2"]
            assert second.gateway == first.gateway


async def test_the_daemon_is_away_and_comes_back_with_other_devices(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with a_page(tmp_path) as page, page.events() as heard:
        await heard.until(lambda one: one.away)
        assert heard.away is not None
        assert heard.away["code"] == "daemon_unreachable"
        async with a_control_server(path, MadeUpGateway(a_view("pump-1"), a_view("gone-1"))):
            await heard.until(lambda one: one.away is None and len(one.devices) == 2)
        await heard.until(lambda one: one.away)
        assert len(heard.devices) == 2, "what was known last is still to be seen"
        async with a_control_server(path, MadeUpGateway(a_view("pump-1", "failed"))):
            await heard.until(lambda one: one.away is None and list(one.devices) == ["pump-1"])
            assert heard.devices["pump-1"]["state"] == "failed"


async def test_one_subscription_for_all_and_none_for_nobody(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"))
    async with a_web(tmp_path, gateway) as page:
        assert (gateway.watchers, gateway.statuses) == (0, 0), "nobody looks"
        async with page.events() as one, page.events() as two:
            await one.until(lambda heard: heard.devices)
            await two.until(lambda heard: heard.devices)
            assert gateway.watchers == 1
        await gateway.until_left()


async def test_what_is_wrong_with_the_gateway_itself_is_heard(tmp_path: Path) -> None:
    gateway = MadeUpGateway()
    async with a_web(tmp_path, gateway) as page, page.events() as heard:
        await heard.until(lambda one: one.gateway and one.gateway["problems"] == [])
        gateway.facts = {
            "config_refused": "config.yaml:3: no",
            "trouble": {"code": "disk_full", "reason": "no space left"},
            "broker": {
                "topics": ("/a/pump/u/4.3", "/a/tank/u/1.0"),
                "subscribed": (),
                "left_out": [
                    {"topic": "/a/tank/u/1.0", "code": "subscription_refused", "reason": "not allowed"}
                ],
                "refused_messages": [
                    {"topic": "/a/x/u/1.0", "code": "too_large", "reason": "it is too large"}
                ],
            },
        }
        await heard.until(lambda one: one.gateway["problems"])
        assert heard.gateway is not None
        assert [(one["about"], one["code"]) for one in heard.gateway["problems"]] == [
            ("configuration", "bad_configuration"),
            ("storage", "disk_full"),
            ("/a/pump/u/4.3", "subscription_refused"),
            ("/a/tank/u/1.0", "subscription_refused"),
            ("/a/x/u/1.0", "too_large"),
        ]
        gateway.facts = {"broker": {"connected": False, "subscribed": ()}}
        await heard.until(lambda one: [p["code"] for p in one.gateway["problems"]] == ["not_connected"])


async def test_a_silence_has_a_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BEAT_S", 0.02)
    async with a_web(tmp_path, MadeUpGateway()) as page, page.events() as heard:
        await heard.until(lambda one: one.beats == 2)
