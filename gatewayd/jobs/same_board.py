"""Boards that answer under two names: a by-id link that moves leads from one board to another.

A board's own id tells. Firmware that gives all boards one id cannot be told from that, so nothing is refused
here: what was heard of the board earlier, under the other name, is only not believed any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gatewayd.config import Device
from gatewayd.jobs.model import DeviceRecord, Job


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The entry under which a board answered last, and the board's id."""

    name: str
    device_id: str

    @property
    def reason(self) -> str:
        """In words, with the next step."""
        return (
            f"device_id {self.device_id!r} answered here, and later as {self.name}: which board is here now"
            " is not known (does a by-id link move? name ports by by-path, or give each device its"
            " device_id; or do all boards report the same id?)"
        )


def answering_elsewhere(
    devices: Iterable[Device], records: Mapping[str, DeviceRecord]
) -> dict[str, Elsewhere]:
    """Return the devices whose board was heard later under another name; a `device_id:` says whose it is."""
    told = [
        (device, record.info.device_id, record)
        for device in devices
        if (record := records.get(device.name)) is not None and record.info and record.info.device_id
    ]
    in_order = sorted(told, key=lambda one: one[2].contact_seq)
    latest = {device_id: record for _, device_id, record in in_order}
    return {
        device.name: Elsewhere(latest[device_id].name, device_id)
        for device, device_id, _ in told
        if device.device_id is None and latest[device_id].name != device.name
    }


def is_of_its_board(job: Job, record: DeviceRecord) -> bool:
    """Whether a job was for the board that answers now, as far as ids tell."""
    now = record.info.device_id if record.info else None
    return job.device_id is None or now is None or job.device_id == now
