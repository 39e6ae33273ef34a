"""YAML -> frozen, typed settings; every mistake at once, each with file, line and key path.

document reads strict YAML; fragments merges config.yaml and conf.d; placeholders and host fill in `${…}`;
foreign reads what other programs would call by other names; model defines the settings; validation checks
values against the model and words the mistakes; files reads keys and the password; checks finds conflicts
between sections; loader ties these together; shared_ports tells which devices share a port at the moment;
effective prints the result; schema generates the JSON Schema for editors.
"""

from gatewayd.config.host import Host
from gatewayd.config.loader import load, load_at_start
from gatewayd.config.mistakes import ConfigErrors, Mistake
from gatewayd.config.model import (
    Adapter,
    BleSettings,
    BleTarget,
    Device,
    Gateway,
    KeyFiles,
    Mqtt,
    Periodic,
    Settings,
    UartSettings,
    Wake,
)

__all__ = [
    "Adapter",
    "BleSettings",
    "BleTarget",
    "ConfigErrors",
    "Device",
    "Gateway",
    "Host",
    "KeyFiles",
    "Mistake",
    "Mqtt",
    "Periodic",
    "Settings",
    "UartSettings",
    "Wake",
    "load",
    "load_at_start",
]
