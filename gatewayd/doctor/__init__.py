"""What is wrong with this gateway, and what to do about it.

Each module looks at one subject: first facts, read from the system, then judgments, pure functions from facts
to a `Finding`. Nothing is changed, neither here nor at the broker nor on a device.
"""

from gatewayd.doctor.examination import examine
from gatewayd.doctor.finding import DoctorReport, Finding, Level

__all__ = ["DoctorReport", "Finding", "Level", "examine"]
