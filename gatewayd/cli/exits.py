"""Exit codes that scripts rely on."""

from gatewayd.codes import Code
from gatewayd.errors import ConfigError, GatewaydError

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 75  # EX_TEMPFAIL: the daemon does not answer
CONFIGURATION = 78  # EX_CONFIG


def exit_code(error: GatewaydError) -> int:
    """Return the exit code for `error`."""
    if error.code == Code.DAEMON_UNREACHABLE:
        return UNREACHABLE
    return CONFIGURATION if isinstance(error, ConfigError) else REFUSED
