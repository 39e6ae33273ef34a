"""What the doctor makes of the bootloaders that devices report."""

from typing import Any

import pytest
from lab.jobs import a_device

from gatewayd.control.views import device_view
from gatewayd.doctor.bootloaders import judge_bootloaders
from gatewayd.doctor.finding import Finding, Level
from gatewayd.jobs.model import DeviceRecord
from gatewayd.protocol.smp.facts import Facts
from gatewayd.status.feed import LinkHealth


def findings(mode: int | None, *, at: str = "2026-11-28T12:00:00Z", **values: Any) -> list[Finding]:
    device = a_device("sensor-3", protocol="smp", **values)
    record = DeviceRecord("sensor-3", Facts(mode=mode).as_info(60), contact_at=at)
    view = device_view(device, None, LinkHealth(), record, None)
    return list(judge_bootloaders([device], [view]))


@pytest.mark.parametrize(
    ("mode", "allowed", "level", "code", "says"),
    [
        (9, False, Level.OK, None, "MCUboot, swap using offset: takes back an image that fails"),
        (9, True, Level.OK, None, "MCUboot, swap using offset: takes back"),
        (5, False, Level.OK, None, "MCUboot, direct XIP with revert: takes back"),
        (2, False, Level.WARNING, "no_trial_boot", "MCUboot, overwrite only: does not take back"),
        (2, True, Level.OK, None, "MCUboot, overwrite only: does not take back"),
        (99, False, Level.WARNING, "no_trial_boot", "MCUboot, mode 99: does not take back"),
        (None, False, Level.WARNING, "unwise", "does not say whether"),
        (None, True, Level.OK, None, "does not say whether"),
    ],
)
def test_the_mode_of_mcuboot_is_said(
    mode: int | None, allowed: bool, level: Level, code: str | None, says: str
) -> None:
    (found,) = findings(mode, allow_no_trial=allowed)
    assert (found.subject, found.level, found.code) == ("sensor-3", level, code)
    assert says in found.text
    assert (found.hint is None) == (code is None)


def test_who_has_not_answered_is_left_out() -> None:
    assert findings(2, at="") == []


def test_a_device_that_was_removed_meanwhile_is_left_out() -> None:
    other = a_device("other")
    record = DeviceRecord("sensor-3", Facts(mode=2).as_info(60), contact_at="2026-11-28T12:00:00Z")
    view = device_view(a_device("sensor-3"), None, LinkHealth(), record, None)
    assert list(judge_bootloaders([other], [view])) == []
