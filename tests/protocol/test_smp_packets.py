"""SMP in the packets of Bluetooth: long requests, devices that take only one packet, lost answers."""

import math
from collections.abc import Callable

import pytest
from lab.smp.memory import Worker, as_image, firmware
from lab.smp.packets import PacketLab, make_packet_lab

from gatewayd.protocol.session import Failed, Identified, Progress, Staged
from gatewayd.protocol.smp.frames import HEADER, HEADER_SIZE, Group, ImageCommand
from gatewayd.protocol.steps import Step

NEW = firmware(1)
LONG = firmware(1, 95_000)


def uploads(lab: PacketLab) -> list[int]:
    """Note the sizes of the upload requests that are sent from now on; of each, its first packet has it."""
    sizes: list[int] = []
    before = lab.pass_on

    def note(way: str, packet: bytes) -> bytes:
        if way == ">" and len(packet) > HEADER_SIZE:
            _, flags, length, group, _, command = HEADER.unpack_from(packet)
            if (flags, group, command) == (0, Group.IMAGE, ImageCommand.UPLOAD):
                sizes.append(HEADER_SIZE + length)
        return before(way, packet)

    lab.pass_on = note
    return sizes


def bring(lab: PacketLab, content: bytes) -> object:
    assert isinstance(lab.run(lambda now: lab.session.identify(now, 5.0)), Identified)
    return lab.run(lambda now: lab.session.transfer(as_image(content), now))


@pytest.mark.parametrize(
    ("packet", "buffer_size", "largest"),
    [
        (20, 384, 380),
        (62, 384, 372),
        (244, 384, 384),
        (495, 384, 384),
        (182, 2475, 2366),
        (244, 2475, 2440),
        (495, 2475, 2475),
    ],
)
def test_an_update_fills_the_devices_buffers_or_whole_packets(
    packet: int, buffer_size: int, largest: int
) -> None:
    lab = make_packet_lab(packet=packet, buffer_size=buffer_size)
    sizes = uploads(lab)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert lab.server.image_bytes == len(NEW)
    assert max(sizes) == largest


@pytest.mark.parametrize(("buffers", "most"), [(4, 3), (3, 2), (2, 1), (8, 3)])
def test_so_many_requests_are_in_flight_as_the_device_has_buffers_beside_its_answers(
    buffers: int, most: int
) -> None:
    """More are dropped by the device, which would show in bytes that come again."""
    lab = make_packet_lab(buffer_count=buffers, write_s=0.05)
    sizes = uploads(lab)
    seen: set[int] = set()
    noted = lab.pass_on

    def count(way: str, packet: bytes) -> bytes:
        passed = noted(way, packet)
        seen.add(len(sizes) - lab.server.requests)
        return passed

    assert isinstance(lab.run(lambda now: lab.session.identify(now, 5.0)), Identified)
    lab.server.requests = 0
    lab.pass_on = count
    assert isinstance(lab.run(lambda now: lab.session.transfer(as_image(NEW), now)), Staged)
    assert lab.server.image_bytes == len(NEW)
    assert most - 1 <= max(seen) <= most


@pytest.mark.parametrize("packet", [62, 244])
def test_a_device_that_puts_nothing_together_gets_requests_of_one_packet(packet: int) -> None:
    lab = make_packet_lab(packet=packet, joins_packets=False)
    sizes = uploads(lab)
    assert isinstance(bring(lab, NEW), Staged)
    assert lab.server.image_bytes == len(NEW)
    assert sum(size > packet for size in sizes) == 1, "larger ones than the first that was refused"
    assert sizes[-2] == packet


def test_a_size_of_packets_that_is_told_late_is_made_use_of() -> None:
    lab = make_packet_lab(packet=62, joins_packets=False)
    sizes = uploads(lab)
    assert isinstance(lab.run(lambda now: lab.session.identify(now, 5.0)), Identified)
    lab.session.transfer(as_image(NEW), lab.now)
    lab.until(lambda: lab.server.image_bytes > len(NEW) // 2)
    assert sizes[-1] == 62
    lab.packet = 244
    lab.session.set_max_datagram(lab.packet)
    assert isinstance(lab.until(lambda: False), Staged)
    assert (lab.server.image_bytes, sizes[-2]) == (len(NEW), 244)


def test_nor_must_it_say_so() -> None:
    """A server that drops what is split, without a word."""
    lab = make_packet_lab()
    sizes = uploads(lab)
    noted = lab.pass_on

    def drop(way: str, packet: bytes) -> bytes:
        passed = noted(way, packet)
        is_whole = len(packet) >= HEADER_SIZE and HEADER_SIZE + HEADER.unpack_from(packet)[2] == len(packet)
        return passed if way == "<" or is_whole else b""

    lab.pass_on = drop
    assert isinstance(bring(lab, NEW), Staged)
    assert sizes[-2] == lab.packet


def test_with_the_smallest_packets_such_a_device_cannot_be_updated_and_that_is_said() -> None:
    outcome = bring(make_packet_lab(packet=20, joins_packets=False), NEW)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "malformed"
    assert "CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY" in outcome.error.hint


def lose_all_after(lab: PacketLab, offset: int, seconds: float) -> Callable[[], float | None]:
    """Lose what is sent for a while, once, when the device has that much; returns how to ask when."""
    lost_at: float | None = None

    def lose(_way: str, packet: bytes) -> bytes:
        nonlocal lost_at
        if lost_at is None and lab.server.image_bytes >= offset:
            lost_at = lab.now
        return b"" if lost_at is not None and lab.now < lost_at + seconds else packet

    lab.pass_on = lose
    return lambda: lost_at


def test_a_device_that_joins_packets_keeps_long_requests_after_a_loss() -> None:
    lab = make_packet_lab(buffer_size=1024)
    lose_all_after(lab, 10_000, 5.0)
    sizes = uploads(lab)
    assert isinstance(bring(lab, NEW), Staged)
    assert sizes[-2] == 4 * lab.packet


def test_a_loss_late_in_a_long_upload_is_noticed_within_seconds() -> None:
    """The radio is many times faster than is assumed of one that nothing is known of."""
    lab = make_packet_lab()
    lost_at = lose_all_after(lab, 90_000, 0.2)
    assert isinstance(lab.run(lambda now: lab.session.identify(now, 5.0)), Identified)
    lab.session.transfer(as_image(LONG), lab.now)
    lab.until(lambda: lost_at() is not None)
    arrived = lab.server.image_bytes
    lab.until(lambda: lab.server.image_bytes > arrived + 1000)
    began = lost_at()
    assert began is not None
    assert lab.now - began < 2.0
    assert isinstance(lab.until(lambda: False), Staged)
    assert any(isinstance(event, Progress) for event in lab.events)


def test_a_radio_that_dies_without_a_word_is_noticed_after_half_a_minute() -> None:
    lab = make_packet_lab()
    died_at = lose_all_after(lab, 10_000, math.inf)
    outcome = bring(lab, NEW)
    began = died_at()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "stalled"
    assert began is not None
    assert 20.0 < lab.now - began < 40.0
