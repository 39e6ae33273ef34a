"""The description of a Bluetooth device to look for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gatewayd.link.bluetooth import AdvertisementData, BLEDevice


@dataclass(frozen=True, slots=True)
class Target:
    """What to look for; everything given must match. `service_data`: a UUID, and how its data begins."""

    address: str | None = None
    name: str | None = None
    service_data: tuple[str, bytes] | None = None

    def is_in(self, device: BLEDevice, advertisement: AdvertisementData) -> bool:
        """Whether an advertisement is from the target."""
        names = (advertisement.local_name, device.name)
        return self.fits(device.address, names, advertisement.service_data)

    def fits(self, address: str, names: Collection[str | None], service_data: Mapping[str, bytes]) -> bool:
        """Whether a device of that address, any of these names and that service data is the target."""
        if self.address is not None and address.upper() != self.address.upper():
            return False
        if self.name is not None and self.name not in names:
            return False
        if self.service_data is None:
            return True
        uuid, start = self.service_data
        found = service_data.get(uuid.lower())
        return found is not None and bytes(found).startswith(start)

    def __str__(self) -> str:
        uuid = self.service_data and f"service data {self.service_data[0]}={self.service_data[1].hex()}"
        return " ".join(part for part in (self.address, self.name, uuid) if part)
