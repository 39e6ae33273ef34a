"""One error root, split by whose fault it is.

Every error carries a stable `code` (what scripts compare and what is stored), a sentence for a person, and
where there is one a `hint`: the next step. `str()` gives the sentence and the hint.
"""


class GatewaydError(Exception):
    """Anything gatewayd refuses or fails at.

    Attributes:
        code: stable, lower case, words joined by underscores; one of `codes.Code`, or what a device or a
            daemon of another version says. Documented in docs/codes.md.
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
    """The operator's: the configuration or a file it names cannot be used."""

    default_code = "bad_configuration"


class FirmwareError(GatewaydError):
    """The publisher's: bytes, signature or version of a firmware are refused."""

    default_code = "bad_firmware"


class DeviceError(GatewaydError):
    """The device's: it refused, failed or broke the protocol."""

    default_code = "device_error"


class LinkError(GatewaydError):
    """The line's: it cannot be opened, or nothing comes back."""

    default_code = "link_error"


class LinkLost(LinkError):  # noqa: N818 - the field's word for it, not an adjective to `Error`
    """The line went away while it was in use."""

    default_code = "link_lost"


class HostError(GatewaydError):
    """This machine's: disk, database, permissions, another daemon in the way."""

    default_code = "host_error"


class RequestError(GatewaydError):
    """The person's who asked: there is no such thing, or it cannot be done now."""

    default_code = "bad_request"
