"""What an update writes to the disk: SD cards wear."""

import random
from typing import Any

from lab.strace import counting_writes

from suites.bench.daemons import MIB, TOPIC, fresh_farm, message, start_with_devices, until_all
from suites.bench.section import Scale, Section, markdown, spread

IMAGE_SIZES_MIB = (1, 16)


async def written_bytes(image_mib: int) -> tuple[int, int]:
    """Return the bytes written to the spool and to the rest of the store, from PUBLISH to the daemon's end.

    Its end, after success, is with it because SQLite then moves what is in its log to the database.
    """
    async with fresh_farm() as whole:
        gateway = whole.gateway
        names = await start_with_devices(whole, 1, slot_size=(image_mib + 1) * MIB)
        release = message(gateway, random.Random(1).randbytes(image_mib * MIB))
        state_dir = gateway.folder / "state"
        assert gateway.process is not None
        with counting_writes(gateway.process.pid, state_dir, gateway.folder / "strace") as written:
            await gateway.send(TOPIC, release)
            await until_all(gateway, names, "succeeded")
            assert gateway.stop() == 0
        spool = sum(size for file, size in written.items() if file.is_relative_to(state_dir / "spool"))
        return spool, sum(written.values()) - spool


async def run(scale: Scale) -> list[dict[str, Any]]:
    """Measure one device, as fast as it takes it, with a small and a large image."""
    rows = []
    for image_mib in IMAGE_SIZES_MIB[: 1 if scale.is_quick else None]:
        found = [await written_bytes(image_mib) for _ in range(scale.runs)]
        parts = {"image_mib": image_mib, "store_bytes": sorted(store for _, store in found)[len(found) // 2]}
        rows.append(parts | spread("disk_bytes", [sum(both) for both in found], 0))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Show it, for people."""
    return markdown(
        "image MiB:, bytes to the disk:, lowest:, highest:, of them jobs and log:, beyond the image:",
        (
            [
                row["image_mib"],
                *(f"{row[name]:,}" for name in ("disk_bytes", "lowest", "highest", "store_bytes")),
                f"{row['disk_bytes'] / row['image_mib'] / MIB - 1:.1%}",
            ]
            for row in rows
        ),
    )


SECTION = Section("disk_bytes_per_update", "Written to the disk for one update", run, table)
