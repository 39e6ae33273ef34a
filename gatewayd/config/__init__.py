"""YAML -> frozen, typed settings; every mistake at once, each with file, line and key path.

document reads strict YAML; fragments merges config.yaml and conf.d; host and placeholders say what `${…}`
stands for; model says what a configuration is; explain turns pydantic's findings into words; files reads keys
and the password; checks compares the parts; loader joins them; shared_ports says whose
ports are one port now; effective writes it all down; schema is for
editors.
"""

from gatewayd.config.host import Host
from gatewayd.config.loader import load
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
]
