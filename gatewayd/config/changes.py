"""What another version of the configuration file changes."""

from dataclasses import dataclass
from typing import Self

from gatewayd.config.loader import load
from gatewayd.config.model import Device, Settings
from gatewayd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Changes:
    """Devices by name; `mqtt` is True if anything in that section changed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    mqtt: bool

    def __bool__(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.added or self.changed or self.removed or self.mqtt)

    @classmethod
    def between(cls, old: Settings, new: Settings) -> Self:
        """Compare two configurations, keys included."""
        before = {device.name: device for device in old.devices}
        kept = [device for device in new.devices if device.name in before]
        changed = [device for device in kept if _differs(old, before[device.name], new, device)]
        return cls(
            added=tuple(device.name for device in new.devices if device.name not in before),
            changed=tuple(device.name for device in changed),
            removed=tuple(sorted(before.keys() - {device.name for device in new.devices})),
            unchanged=tuple(device.name for device in kept if device not in changed),
            mqtt=new.mqtt != old.mqtt,
        )


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What is in force now, and what is other than before."""

    settings: Settings
    changes: Changes


def read_again(old: Settings) -> Settings:
    """Read the file of `old` as it is now.

    Raises ConfigErrors, or ConfigError `restart_needed` for what a running daemon cannot change.
    """
    new = load(old.file.absolute())  # gatewayctl prints the mistakes, and its working directory is another
    fixed = [
        key
        for key in type(old.gateway).model_fields
        if getattr(old.gateway, key) != getattr(new.gateway, key)
    ]
    fixed = [f"gateway.{key}" for key in fixed] + ["adapters"] * (old.adapters != new.adapters)
    if fixed:
        keys = ", ".join(fixed)
        raise ConfigError(
            f"{new.file}: {keys} cannot change while gatewayd runs; nothing was changed",
            code="restart_needed",
            hint="restart gatewayd, or undo that change",
        )
    return new


def _differs(old: Settings, before: Device, new: Settings, after: Device) -> bool:
    pairs = ((old, before), (new, after))
    keys = [settings.key_sets.get(device.keys) if device.keys else None for settings, device in pairs]
    return before != after or keys[0] != keys[1]
