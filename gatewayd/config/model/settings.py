"""The section `gateway`, and the whole of a gateway's settings."""

import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, InstanceOf, ValidationInfo

from gatewayd.config.mistakes import Mistake
from gatewayd.config.model.device import Device
from gatewayd.config.model.link import Adapter
from gatewayd.config.model.mqtt import Mqtt
from gatewayd.config.model.values import LAX, LocalPath, Name, Section, local_path, refuse
from gatewayd.errors import ConfigError
from gatewayd.ota.keys import KeySet
from gatewayd.ota.rules import Payload

# sockaddr_un.sun_path is 108 bytes on Linux, the last one NUL.
SOCKET_PATH_LIMIT_BYTES = 107


def _socket_path(path: Path, info: ValidationInfo) -> Path:
    path = local_path(path, info)
    size_bytes = len(str(path).encode())
    if size_bytes > SOCKET_PATH_LIMIT_BYTES:
        raise refuse(f"expected at most {SOCKET_PATH_LIMIT_BYTES} bytes, got {size_bytes}")
    return path


class Gateway(Section):
    """This gateway."""

    id: Name = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="This gateway's name in topics. Default: the host name",
    )
    state_dir: LocalPath = Field(Path("/var/lib/gatewayd"), description="Where jobs and firmware are kept")
    control_socket: Annotated[Path, LAX, AfterValidator(_socket_path)] = Field(
        Path("/run/gatewayd/control.sock"), description="Where gatewayctl reaches the daemon"
    )


class KeyFiles(Section):
    """The files of one key set, as `gatewayctl keygen` or Sming's otatool writes them."""

    decrypt_key_file: LocalPath | None = Field(None, description="decrypt.key.bin: 32 bytes, secret")
    verify_key_file: LocalPath | None = Field(None, description="verify.key.bin: 32 bytes, public")
    ota_key_file: LocalPath | None = Field(
        None, description="ota.key: both of the above and the signing key; best kept off gateways"
    )
    allow_shared_key: bool = Field(
        default=False, description="Allow one key for the firmware of several applications"
    )


class Settings(Section):
    """The daemon's whole configuration, as `load` returns it. `files`: all that were read, in order."""

    file: Path
    files: tuple[Path, ...] = Field((), exclude=True, repr=False)
    gateway: Gateway
    mqtt: Mqtt
    devices: tuple[Device, ...]
    adapters: dict[str, Adapter] = Field(default_factory=dict)
    key_files: dict[str, KeyFiles] = Field(default_factory=dict, exclude=True, repr=False)
    key_sets: dict[str, InstanceOf[KeySet]] = Field(exclude=True, repr=False)
    unusable_keys: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    warnings: tuple[Mistake, ...] = Field((), exclude=True, repr=False)

    def keys_of(self, device: Device) -> KeySet | None:
        """Return the key set of `device`, if it has one. Raises ConfigError `keys_unusable`."""
        if device.keys in self.unusable_keys:
            raise ConfigError(
                self.unusable_keys[device.keys],
                code="keys_unusable",
                hint="correct it, then `gatewayctl reload`",
            )
        return self.key_sets[device.keys] if device.keys is not None else None

    def missing_keys(self, device: Device) -> str:
        """Say why the keys that `device` needs cannot be used; "" if they can, or it needs none."""
        if device.payload is Payload.STANDARD or device.keys is None:
            return ""
        return self.unusable_keys.get(device.keys, "")
