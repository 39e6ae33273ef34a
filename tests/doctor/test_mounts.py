"""Whether the state directory keeps what is written to it."""

from pathlib import Path

import pytest

from gatewayd.doctor import mounts
from gatewayd.doctor.mounts import examine_permanence, judge_permanence, mount_of, read_mounts

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
31 27 0:30 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
32 27 0:31 / /ram rw - ramfs none rw
33 27 252:0 / /var/log rw - ext4 /dev/zram0 rw
34 27 0:33 / /rw/over\040lay rw - overlay overlayroot rw,lowerdir=/lower
35 34 179:3 / /rw/over\040lay/kept rw - ext4 /dev/mmcblk0p3 rw
36 27 179:3 / /mnt rw - ext4 /dev/mmcblk0p3 rw
37 27 0:34 / /mnt rw - tmpfs tmpfs rw
not a mount
"""


@pytest.mark.parametrize(
    ("path", "is_kept", "said"),
    [
        ("/var/lib/gatewayd", True, "on ext4"),
        ("/runner/state", True, "on ext4"),
        ("/run/gatewayd", False, "in memory (tmpfs on /run)"),
        ("/ram/state", False, "in memory (ramfs on /ram)"),
        ("/var/log/gatewayd", False, "in memory (/dev/zram0 on /var/log)"),
        ("/rw/over lay/state", False, "on an overlay (/rw/over lay)"),
        ("/rw/over lay/kept/state", True, "on ext4"),
        ("/mnt/state", False, "in memory (tmpfs on /mnt)"),
    ],
)
def test_a_state_directory_that_is_lost_with_a_restart_is_warned_about(
    path: str, *, is_kept: bool, said: str
) -> None:
    finding = judge_permanence(Path(path), mount_of(Path(path), read_mounts(MOUNTINFO)))
    assert said in finding.text
    assert finding.code == (None if is_kept else "state_dir_volatile")


def test_the_doctor_says_it_only_where_it_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert examine_permanence(tmp_path / "state") == [], "a kernel that says nothing"
    table.write_text("1 1 0:1 / / rw - ext4 /dev/sda1 rw\n")
    assert examine_permanence(tmp_path / "state") == []
    table.write_text("1 1 0:1 / / rw - overlay overlay rw\n")
    assert [one.code for one in examine_permanence(tmp_path / "state")] == ["state_dir_volatile"]
