"""What --json prints for commands that work without the daemon; the others print its answer."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from gatewayd.control.messages import Error, Time
from gatewayd.errors import GatewaydError


class CommandFailed(BaseModel):
    """The output of any command that is refused or fails."""

    error: Error

    @classmethod
    def of(cls, error: GatewaydError) -> "CommandFailed":
        """Describe an error; for a configuration, with each mistake."""
        mistakes = tuple(str(mistake) for mistake in getattr(error, "mistakes", ()))
        return cls(error=Error(code=error.code, message=error.message, hint=error.hint, mistakes=mistakes))


class ConfigMistake(BaseModel):
    """As `config.Mistake`. `line` and `column` from 1; 0: the file as a whole."""

    file: str
    line: int
    column: int
    key_path: str
    message: str
    suggestion: str


class ConfigGood(BaseModel):
    """`check-config`: the configuration is valid. `files`: all that were read, in order.

    `in_force`: with --in-force, the running daemon has it in force; null without.
    """

    file: str
    files: list[str]
    ok: Literal[True]
    devices: int
    in_force: bool | None
    warnings: list[ConfigMistake]


class ConfigBad(BaseModel):
    """`check-config`: the configuration is invalid."""

    file: str
    ok: Literal[False]
    mistakes: list[ConfigMistake]


class Source(BaseModel):
    """Where a value in the configuration was written."""

    file: str
    line: int


class EffectiveConfig(BaseModel):
    """`config --effective`: `configuration` is laid out like a file; `sources` by key, null for defaults."""

    revision: str
    files: list[str]
    configuration: dict[str, Any]
    sources: dict[str, Source | None]


class KeysMade(BaseModel):
    """`keygen`: the files, and the key set's fingerprint."""

    ota_key: str
    decrypt_key: str
    verify_key: str
    fingerprint: str


class PasswordSet(BaseModel):
    """`web-password`: the file, and whose password was set, or taken out."""

    file: str
    name: str
    removed: bool


class PinReport(BaseModel):
    """`pin`: a broker's key. `vouched`: this system trusts its certificate for this name; else `why_not`."""

    pin: str
    tls: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    vouched: bool
    why_not: str | None


class PackedRom(BaseModel):
    """`pack`: one image; `size` in bytes. `own_version`: what an MCUboot image says that it is."""

    address: int
    size: int
    sha256: str
    own_version: str | None = None


class Packed(BaseModel):
    """`pack`: the container; `timestamp_ms` since 1900, as in the container."""

    file: str
    size: int
    sha256: str
    timestamp_ms: int
    built_at: Time
    signed: bool
    encrypted: bool
    roms: list[PackedRom]


class Published(BaseModel):
    """`publish`: what the broker has confirmed. `own_version`: what MCUboot images say that they are."""

    topic: str
    version: str
    size: int
    recognised: str
    patch_encoding: Literal["varint", "byte"]
    warnings: list[str]
    own_version: str | None = None


class Holder(BaseModel):
    """A device for which its gateway still reports what was withdrawn."""

    gateway: str
    device: str
    state: str
    installed_version: str | None
    latest_version: str | None


class HomeAssistantCleared(BaseModel):
    """`fleet clear-home-assistant`: the broker retains nothing on these topics any more."""

    gateway: str
    topics: list[str]


class GatewayForgotten(BaseModel):
    """`fleet forget`: the broker retains nothing on these topics any more."""

    gateway: str
    topics: list[str]


class Withdrawn(BaseModel):
    """`withdraw`: the broker retains nothing on the topic any more.

    Attributes:
        was_retained: whether there was something; None: the broker did not say.
        size: its bytes, if it is known.
        holders: devices whose last report names a version of the line as the latest one.
    """

    topic: str
    was_retained: bool | None
    size: int | None
    holders: list[Holder]
