"""One base class for errors, with subclasses by whose fault it is.

Every error carries a stable `code` (what scripts compare and what is stored), a sentence for a person, and
if there is one, a `hint`: the next step. `str()` gives the sentence and the hint.
"""


class GatewaydError(Exception):
    """Anything gatewayd refuses or fails at.

    Attributes:
        code: stable, lower case, words joined by underscores; one of `codes.Code`, or one from a device or
            a daemon of another version. Documented in docs/codes.md.
        message: one sentence that names what was expected and what was found.
        hint: what to do next; empty when there is nothing to do.
    """

    default_code = "internal"

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = str(code or self.default_code)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(GatewaydError):
    """The operator's fault: the configuration or a file it names cannot be used."""

    default_code = "bad_configuration"


class FirmwareError(GatewaydError):
    """The publisher's fault: bytes, signature or version of a firmware are refused."""

    default_code = "bad_firmware"


class DeviceError(GatewaydError):
    """The device's fault: it refused, failed or broke the protocol."""

    default_code = "device_error"


class LinkError(GatewaydError):
    """The link's fault: it cannot be opened, or nothing comes back."""

    default_code = "link_error"


class LinkLost(LinkError):  # noqa: N818 - the field's term
    """The link was lost while it was in use."""

    default_code = "link_lost"


class HostError(GatewaydError):
    """This machine's fault: disk, database, permissions, another daemon in the way."""

    default_code = "host_error"


class RequestError(GatewaydError):
    """The requester's fault: there is no such thing, or it cannot be done now."""

    default_code = "bad_request"
