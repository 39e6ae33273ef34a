"""Which devices a topic just misses, and by what: for a person who wonders why nothing happens."""

from collections.abc import Iterable

from gatewayd.config import Device
from gatewayd.jobs.eligibility import line_of
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.ota.version import Version

# More would only repeat themselves.
_SHOWN = 5


def near_misses(topic: OtaTopic, devices: Iterable[tuple[Device, Version]]) -> list[str]:
    """Say by what the topic misses each device, which runs that version; empty where one follows it."""
    each = [(device, _miss(topic, device, version)) for device, version in devices]
    if any(miss == "" for _, miss in each):
        return []
    return [f"{device.name} {miss}" for device, miss in each if miss][:_SHOWN]


def _miss(topic: OtaTopic, device: Device, version: Version) -> str | None:
    """By what it misses the device; empty: it does not; None: by far."""
    if device.app_id != topic.app_id:
        is_near = device.app_id.casefold().strip() == topic.app_id.casefold().strip()
        return f"has app_id {device.app_id!r}, and this is for {topic.app_id!r}" if is_near else None
    line = f"{topic.major}.{topic.minor}"
    follows = line_of(device, version)
    if follows != (topic.major, topic.minor):
        cure = f'line: "{line}" in its configuration follows that one'
        return f"runs {version} and follows {follows}; {line} is another line ({cure})"
    if topic.channel in device.channels:
        return ""
    channels = " and ".join(sorted(_channel(one) for one in device.channels))
    return f"follows {channels} of {line}, and this is {_channel(topic.channel)}"


def _channel(channel: Channel) -> str:
    return "the topic without a channel" if channel is Channel.NONE else f"the channel {channel}"
