"""The configuration as typed, frozen values; each field's description also goes into the JSON Schema.

A module for each section. values has what they share, settings the whole.
"""

from gatewayd.config.model.device import Device
from gatewayd.config.model.link import (
    ADAPTER_PATTERN,
    ADDRESS_PATTERN,
    HEX_PATTERN,
    LINKS,
    UUID_PATTERN,
    Adapter,
    BleLimits,
    BleSettings,
    BleTarget,
    UartSettings,
    Wake,
    link_kind,
)
from gatewayd.config.model.mqtt import Mqtt, MqttSection, Periodic, TlsSection
from gatewayd.config.model.settings import Gateway, KeyFiles, Settings
from gatewayd.config.model.values import NAME_PATTERN, UNIT_CREDENTIALS, Section

__all__ = [
    "ADAPTER_PATTERN",
    "ADDRESS_PATTERN",
    "HEX_PATTERN",
    "LINKS",
    "NAME_PATTERN",
    "UNIT_CREDENTIALS",
    "UUID_PATTERN",
    "Adapter",
    "BleLimits",
    "BleSettings",
    "BleTarget",
    "Device",
    "Gateway",
    "KeyFiles",
    "Mqtt",
    "MqttSection",
    "Periodic",
    "Section",
    "Settings",
    "TlsSection",
    "UartSettings",
    "Wake",
    "link_kind",
]
