"""Why a port cannot be opened, in words: the one table from the system's errors to ours."""

import errno

from gatewayd.errors import LinkError
from gatewayd.link.holders import find_holder

_LIST_HINT = "is it plugged in? `ls -l /dev/serial/by-id` lists what is"
_DENIED_HINT = "add the user to the group dialout (`usermod -aG dialout USER`) and log in again"
_BUSY_HINT = "stop the program that has it open, for instance a terminal or ModemManager"

_TABLE = {
    errno.ENOENT: ("link_missing", "does not exist", _LIST_HINT),
    errno.ENXIO: ("link_missing", "has no hardware behind it", _LIST_HINT),
    errno.ENODEV: ("link_missing", "has no hardware behind it", _LIST_HINT),
    errno.EBUSY: ("link_busy", "is in use", _BUSY_HINT),
    errno.EAGAIN: ("link_busy", "is in use", _BUSY_HINT),
    errno.EACCES: ("link_denied", "may not be opened", _DENIED_HINT),
    errno.EPERM: ("link_denied", "may not be opened", _DENIED_HINT),
}


def explain(path: str, error: Exception) -> LinkError:
    """Return what to raise for `error`, which opening `path` gave."""
    number = getattr(error, "errno", None)
    code, what, hint = _TABLE.get(
        number or 0, ("link_error", f"cannot be used as a serial port: {error}", "")
    )
    holder = find_holder(path) if code == "link_busy" else None
    by_whom = f" by {holder}" if holder else ""
    return LinkError(f"{path} {what}{by_whom}", code=code, hint=hint)
