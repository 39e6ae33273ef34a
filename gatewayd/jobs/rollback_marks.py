"""Anti-rollback marks: whose they are, and how they move. Pure.

A mark is the authenticated timestamp of the newest genuine image that a *board* is known to run. A board is
known by its app id and device id; one that tells no id by its app id and link, and a swap of two of those
cannot be noticed. The name of a device in the configuration is nothing but the place where a mark waits for a
board that tells an id for the first time, or for an entry whose link was changed.

    found     the mark of the board's id, if there is one; otherwise the highest of: the entry's, the link's,
              and what a record of another name holds for the same id (the entry was renamed)
    raised    to the newest image that the board runs, by the image's name and never by its version text; an
              image on trial does not count, since the board may go back
    lowered   by a job that succeeded where a downgrade was allowed, and by nothing else

Whatever follows from these rules and is not stored yet is a `SaveMark`: what a mark rests on, such as a
release, may be gone tomorrow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gatewayd.config import Device, Settings
from gatewayd.jobs.eligibility import images_of, profile_of
from gatewayd.jobs.model import BoardKey, DeviceRecord, Job, SaveMark, Verdict
from gatewayd.ota.rules import RollbackMark
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import DeviceInfo, ImageState

# Images by their names, with the mark of a board that runs them.
Builds = Sequence[Mapping[ImageId, RollbackMark]]


@dataclass(frozen=True, slots=True)
class Marked:
    """What of the store tells marks: records by device name, marks by board, verdicts, jobs."""

    records: Mapping[str, DeviceRecord]
    marks: Mapping[BoardKey, RollbackMark]
    verdicts: Mapping[tuple[str, str], Verdict]
    jobs: Sequence[Job]


def keys_of(device: Device, info: DeviceInfo | None) -> tuple[BoardKey, ...]:
    """Return what the board behind an entry is known by; the first one is its own."""
    link = BoardKey(device.app_id, "link", device.link.address)
    if info is None or info.device_id is None:
        return (link,)
    return BoardKey(device.app_id, "id", info.device_id), link


def mark_of(
    device: Device,
    info: DeviceInfo | None,
    known: Marked,
    builds: Builds,
) -> RollbackMark | None:
    """Return the mark of the board that said `info`, or of the entry's board if it has said nothing yet."""
    return highest([_found(device, info, known), _running(info, builds)])


def effective(settings: Settings, known: Marked) -> tuple[dict[str, DeviceRecord], tuple[SaveMark, ...]]:
    """Return the record of each device with the mark that counts now, and what of the marks is not stored."""
    sent_by_app = _sent_by_app(settings, known)
    found = dict(known.records)
    saves: list[SaveMark] = []
    for device in settings.devices:
        builds = _published_for(settings, device, known), sent_by_app.get(device.app_id, {})
        record = _record_of(device, known)
        mark = mark_of(device, record.info, known, builds)
        if mark is not None or device.name in known.records:
            found[device.name] = replace(known.records.get(device.name, record), mark=mark)
        if (save := _to_save(device, known, builds, mark)) is not None:
            saves.append(save)
    return found, tuple(saves)


def builds_for(settings: Settings, device: Device, known: Marked) -> Builds:
    """Return the images that are known to be genuine firmware of a device's app."""
    return _published_for(settings, device, known), _sent_by_app(settings, known).get(device.app_id, {})


def _published_for(settings: Settings, device: Device, known: Marked) -> dict[ImageId, RollbackMark]:
    reading = profile_of(settings, device).key
    return published(device, [verdict for (_, key), verdict in known.verdicts.items() if key == reading])


def published(device: Device, verdicts: Iterable[Verdict]) -> dict[ImageId, RollbackMark]:
    """Return the genuine images of which a timestamp is vouched for; verdicts in the device's own reading."""
    return _newest(
        (image.id, RollbackMark(verdict.timestamp_ms, bytes.fromhex(verdict.container_sha256)))
        for verdict in verdicts
        if verdict.is_genuine and verdict.timestamp_ms is not None
        for image in images_of(device, verdict)
    )


def sent(jobs: Iterable[Job]) -> dict[ImageId, RollbackMark]:
    """Return the images that jobs have sent, which were genuine: their messages may be gone since."""
    return _newest(
        (job.image, RollbackMark(job.timestamp_ms, bytes.fromhex(job.container_sha256)))
        for job in jobs
        if job.image is not None and job.timestamp_ms is not None
    )


def _sent_by_app(settings: Settings, known: Marked) -> dict[str, dict[ImageId, RollbackMark]]:
    """Return what was sent for each app, also to devices that had another name then."""
    apps: dict[str, str | None] = {device.name: device.app_id for device in settings.devices}
    apps |= {name: one.info.app_id for name, one in known.records.items() if one.info is not None}
    by_app: dict[str, list[Job]] = {}
    for job in known.jobs:
        if (app := apps.get(job.device)) is not None:
            by_app.setdefault(app, []).append(job)
    return {app: sent(many) for app, many in by_app.items()}


def _newest(builds: Iterable[tuple[ImageId, RollbackMark]]) -> dict[ImageId, RollbackMark]:
    newest: dict[ImageId, RollbackMark] = {}
    for image, mark in builds:
        if _is_lower(newest.get(image), mark):
            newest[image] = mark
    return newest


def highest(marks: Iterable[RollbackMark | None]) -> RollbackMark | None:
    """Return the one with the latest timestamp; of equals the first."""
    return max((mark for mark in marks if mark is not None), key=lambda one: one.timestamp_ms, default=None)


def _to_save(device: Device, known: Marked, builds: Builds, mark: RollbackMark | None) -> SaveMark | None:
    """Return what is not stored yet of the mark of an entry's board."""
    if mark is None:
        return None
    record = _record_of(device, known)
    lower = tuple(key for key in keys_of(device, record.info) if _is_lower(known.marks.get(key), mark))
    if not lower and not _is_lower(record.mark, mark):
        return None
    return SaveMark(device.name, lower, mark, _why(device, record, known, mark, builds))


def _found(device: Device, info: DeviceInfo | None, known: Marked) -> RollbackMark | None:
    own, *others = keys_of(device, info)
    if own.kind == "id" and own in known.marks:
        return known.marks[own]
    inherited = [_record_of(device, known).mark, *(known.marks.get(key) for key in (own, *others))]
    if own.kind == "id":
        inherited += [
            record.mark
            for record in known.records.values()
            if record.info is not None
            and (record.info.app_id, record.info.device_id) == (device.app_id, own.value)
        ]
    return highest(inherited)


def _record_of(device: Device, known: Marked) -> DeviceRecord:
    """Return what is known of an entry, unless it was for another application then."""
    record = known.records.get(device.name, DeviceRecord(device.name))
    if record.info is not None and record.info.app_id not in (None, device.app_id):
        return DeviceRecord(device.name)
    return record


def _running(info: DeviceInfo | None, builds: Builds) -> RollbackMark | None:
    if info is None or info.running is None or info.image_state is ImageState.ON_TRIAL:
        return None
    return highest(images.get(info.running) for images in builds)


def _is_lower(stored: RollbackMark | None, mark: RollbackMark) -> bool:
    return stored is None or stored.timestamp_ms < mark.timestamp_ms


def _why(device: Device, record: DeviceRecord, known: Marked, mark: RollbackMark, builds: Builds) -> str:
    if _running(record.info, builds) == mark:
        return "the board runs an image with this timestamp"
    own = keys_of(device, record.info)[0]
    if own in known.marks and not _is_lower(known.marks[own], mark):
        return "it is kept for the entry, too"
    if own.kind == "id":
        return f"device id {own.value} was not seen before: the board inherits the entry's mark"
    return f"no board with an id was seen at {own.value}: it inherits the entry's mark"
