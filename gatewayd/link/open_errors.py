"""Why a port cannot be opened: the one table that translates the system's errors to ours."""

import errno
import os
import stat
from pathlib import Path

from gatewayd.codes import Code
from gatewayd.errors import LinkError
from gatewayd.link.holders import find_holder

_LIST_HINT = "check that it is plugged in; `ls -l /dev/serial/by-id` lists the ports"
_DENIED_HINT = "add the user to the group dialout (`usermod -aG dialout USER`) and log in again"
_BUSY_HINT = "stop the program that has it open, for instance a terminal or ModemManager"

_FILES_HINT = "raise LimitNOFILE= with `systemctl edit gatewayd`; `ls /proc/PID/fd` shows what is open"

_TABLE = {
    errno.ENOENT: (Code.LINK_MISSING, "does not exist", _LIST_HINT),
    errno.ENXIO: (Code.LINK_MISSING, "has no hardware behind it", _LIST_HINT),
    errno.ENODEV: (Code.LINK_MISSING, "has no hardware behind it", _LIST_HINT),
    errno.EBUSY: (Code.LINK_BUSY, "is in use", _BUSY_HINT),
    errno.EAGAIN: (Code.LINK_BUSY, "is in use", _BUSY_HINT),
    errno.EACCES: (Code.LINK_DENIED, "must not be opened by this user", _DENIED_HINT),
    errno.EISDIR: (Code.LINK_ERROR, "is a directory, not a port", _LIST_HINT),
    errno.EMFILE: (Code.TOO_MANY_FILES, "cannot be opened: too many open files", _FILES_HINT),
    errno.ENFILE: (Code.TOO_MANY_FILES, "cannot be opened: too many open files", _FILES_HINT),
}


def translate_error(path: str, error: Exception) -> LinkError:
    """Return the LinkError to raise for `error`, which opening `path` raised."""
    number = getattr(error, "errno", None)
    if number == errno.EPERM:
        return LinkError(
            f"{path} may not be opened: its kind of port is not allowed",
            code=Code.LINK_DENIED,
            hint=_allow_hint(path),
        )
    code, what, hint = _TABLE.get(
        number or 0, (Code.LINK_ERROR, f"cannot be used as a serial port: {error}", "")
    )
    holder = find_holder(path) if code == Code.LINK_BUSY else None
    by_whom = f" by {holder}" if holder else ""
    return LinkError(f"{path} {what}{by_whom}", code=code, hint=hint)


def _allow_hint(path: str) -> str:
    """Say how to allow a kind of port: the kernel answers EPERM for what a unit's DeviceAllow= leaves out."""
    try:
        status = Path(path).stat()
        kind = f"char-{os.major(status.st_rdev)}" if stat.S_ISCHR(status.st_mode) else "char-MAJOR"
    except OSError:
        kind = "char-MAJOR"
    return (
        f"no group helps: `systemctl edit gatewayd`, and there, below [Service], DeviceAllow={kind} rw"
        " (/usr/share/doc/gatewayd/examples/more-ports.conf); in a container, hand the device over"
    )
