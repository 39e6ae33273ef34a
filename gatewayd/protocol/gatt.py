"""The GATT service by which a Bluetooth device offers a protocol."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GattProfile:
    """A service and its characteristics, by their UUIDs in lower case.

    Attributes:
        offers: what a device with this service offers, for messages.
        to_device: the characteristic to write to. May be the same as `from_device`.
        from_device: the characteristic that notifies.
        takes_requests: whether `to_device` accepts writes with response, which also confirm that everything
            before them has arrived. It must accept writes without response.
    """

    offers: str
    service: str
    to_device: str
    from_device: str
    takes_requests: bool = True
