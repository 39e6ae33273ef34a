"""Checks of this gateway: what is wrong, and what to do about it.

Each module covers one subject. `examine_…` reads facts from the system; `judge_…` are pure functions from
facts to a `Finding`. Nothing is changed: not here, not at the broker, not on a device.
"""

from gatewayd.doctor.examination import examine
from gatewayd.doctor.finding import DoctorReport, Finding, Level

__all__ = ["DoctorReport", "Finding", "Level", "examine"]
