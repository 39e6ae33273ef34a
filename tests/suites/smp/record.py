"""Record the script with a real server: `python -m suites.smp.record`, into tests/vectors/smp."""

import asyncio

import click
from lab.smp.images import application, microbit_flash, shipped
from lab.smp.qemu import MICROBIT, Board
from lab.smp.script import VECTOR, Step, conversation, play, sparse

from suites.smp.players import RealServer

_HEADER = """\
# A conversation with Zephyr 4.4.0's SMP server and MCUboot (swap using offset) on an emulated microbit:
# seconds, direction (> to the device), bytes. Recorded by suites/smp/record.py; the script is
# lab/smp/script.py. The applications are not ours to keep: of each, size, header and TLVs; of their
# chunks, `upload NAME OFFSET`.
"""


async def record() -> str:
    """Play the script; returns the recording as text."""
    applications = {"old": application("1.0.0"), "new": application("1.0.1")}
    board = Board(MICROBIT, shipped(), microbit_flash("1.0.0"))
    server = RealServer(board)
    lines = [_HEADER]
    for name, content in applications.items():
        size, head, tail = sparse(content)
        lines.append(f"image {name} {size} {head.hex()} {tail.hex()}\n")
    try:
        await server.start()
        async for step, answers in play(conversation(applications), server):
            lines += _lines(step, server)
            click.echo(f"{step.name}: {[dict(one.payload) for one in answers]}")
    finally:
        await server.close()
    return "".join(lines)


def _lines(step: Step, server: RealServer) -> list[str]:
    lines = [f"# {step.name}\n"]
    for at, way, data in server.said:
        elided = way == ">" and step.image and step.frame is not None
        what = f"upload {step.image} {step.frame.payload['off']}" if elided and step.frame else data.hex()
        lines.append(f"{at:.4f} {way} {what}\n")
    server.said.clear()
    return lines


if __name__ == "__main__":
    VECTOR.write_text(asyncio.run(record()))
