"""What the receiver in C remembers of images it tried, and what it does at the ends of its memory."""

from lab.c_receiver_bench import c_bench
from lab.receiver_bench import IMAGE, OLD, SHA

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Hello, Info
from gatewayd.protocol.session import ImageState

OTHER = IMAGE[::-1]


def test_a_confirmed_image_that_a_cable_replaced_was_not_reverted() -> None:
    on = c_bench(tells_revert=False)
    assert on.update()
    on.device.files.write("active.bin", OTHER)
    on.device.power_cut(on.now)
    info = on.hello()
    assert (info.tried_sha256, info.image_state) == (SHA, ImageState.CONFIRMED)


def test_each_image_is_counted_by_itself() -> None:
    on = c_bench()
    assert on.update()
    assert on.update(OTHER)
    assert on.hello().tried_count == 1


def test_what_became_of_an_earlier_image_is_not_said_of_the_next_one() -> None:
    on = c_bench()
    on.activate(on.stage(), trial_s=1)
    on.wait(3)
    assert on.hello().image_state is ImageState.REVERTED
    session = on.stage(OTHER)
    assert on.hello().image_state is ImageState.REVERTED
    on.ask(frames.Activate(session, on.sha256(OTHER), on.hello().boot_id, 600))
    info = on.hello()
    assert (info.tried_sha256, info.tried_count) == (on.sha256(OTHER), 1)
    assert info.image_state is ImageState.CONFIRMED


def test_a_full_ring_keeps_what_it_has() -> None:
    on = c_bench(rx_ring=300)
    wire = encode_stream(Hello(5, "bench").to_bytes())
    on.device.queue(wire * 20)
    assert [type(answer) for answer in on.wait()] == [Info] * (300 // len(wire))
    assert on.hello().rx_ring == 300


def test_the_rest_of_the_last_write_unit_stays_blank() -> None:
    on = c_bench(write_unit=64)
    image = OLD[:650]  # ten units and ten bytes
    on.bring_in(image)
    assert on.device.flash.read(on.device.flash.slot, 704) == image + b"\xff" * 54
