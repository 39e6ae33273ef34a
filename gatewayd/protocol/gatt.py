"""Where a protocol is found on a Bluetooth device."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GattProfile:
    """A service and its characteristics, by their UUIDs in lower case.

    Attributes:
        offers: what a device with this service offers, for a sentence.
        to_device: what is written to. May be the same as `from_device`.
        from_device: what notifies.
        takes_requests: whether `to_device` may be written with response, by which a device says that all
            before it has arrived. Writes without response it has to take.
    """

    offers: str
    service: str
    to_device: str
    from_device: str
    takes_requests: bool = True
