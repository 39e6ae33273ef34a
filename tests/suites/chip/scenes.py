"""What happens to a chip and its update. Each scene plays on a stage of its own, and returns what it saw."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from suites.chip.qemu import End
from suites.chip.stage import FIRST, Play, Stage, stage

SIZE = 20_000
# Long enough on the line that four cuts and what each repeats fit in.
LONG_SIZE = 40_000
# A page erased and filled: three of them for each page of a swap.
STEP_S = 0.022 + 256 * 46e-6
TRIAL_S = 4
NOISE = 1 / 2000
# Of an image on trial; and how long one of them lasts at most before power is cut.
STARTS = 3
START_S = 1.0
CUTS_AN_UPDATE = {"transfer": 4, "swap": 2}


Scene = Callable[[Play], Awaitable[str]]


async def update(play: Play) -> str:
    """From the message to `succeeded`, twice: the second one goes back to where the first came from."""
    async with stage(play) as one:
        sent = one.chip.terminal.taken
        await one.publish(SIZE)
        await one.succeed()
        sent = one.chip.terminal.taken - sent
        await one.publish(SIZE // 2)
        await one.succeed()
        await _end_well(one)
        return f"{sent} bytes sent for {SIZE}; stack {one.chip.stack_bytes} bytes"


async def cut_transfer(play: Play) -> str:
    """Power cut at random places of the transfer."""
    async with stage(play) as one:
        left, sent = play.transfer_cuts, 0
        while left > 0:
            cuts = min(left, CUTS_AN_UPDATE["transfer"])
            before = one.chip.terminal.taken
            await one.publish(LONG_SIZE)
            for place in sorted(play.chance.randrange(LONG_SIZE) for _ in range(cuts)):
                await one.chip.until_taken(before + place)
                await one.chip.cut_power()
            await one.succeed()
            left -= cuts
            sent += one.chip.terminal.taken - before
        await _end_well(one)
        return f"{play.transfer_cuts} cuts in {one.patch} updates of {LONG_SIZE}; {sent} bytes sent"


async def cut_swap(play: Play) -> str:
    """Power cut at random steps of the swap."""
    cut_at: list[int] = []
    async with stage(play) as one:
        while len(cut_at) < play.swap_cuts:
            await one.publish(SIZE)
            await one.chip.until_ended(one.chip.lives + 1)
            steps = 3 * one.chip.record.pages
            cuts = min(play.swap_cuts - len(cut_at), CUTS_AN_UPDATE["swap"])
            for step in sorted(play.chance.sample(range(steps - 1), cuts)):
                await one.chip.until_step(step)
                await asyncio.sleep(play.chance.random() * STEP_S)
                await one.chip.cut_power()
                cut_at.append(one.chip.record.forth)
            await one.succeed()
        await _end_well(one)
        return f"cut after steps {', '.join(map(str, cut_at))} of {steps}, in {one.patch} updates"


async def cut_trial(play: Play) -> str:
    """Power cut while the new image is on trial: twice is nobody's fault, the third time it goes back."""
    async with stage(play) as one:
        await one.publish(SIZE)
        await _cut_trial(one, STARTS - 1)
        await one.succeed()
        kept = one.version
        await one.publish(SIZE)
        await _cut_trial(one, STARTS)
        status = await one.fail("reverted")
        await one.end()
        one.assert_runs(kept)
        assert one.chip.record.has_reverted
        return f"{STARTS - 1} cuts: succeeded; {STARTS} cuts: {status['code']}"


async def _cut_trial(one: Stage, cuts: int) -> None:
    """Cut the line when the chip restarts into the image, the power in so many of its starts."""
    await one.chip.until_ended(one.chip.lives + 1)
    one.chip.terminal.is_cut = True
    for start in range(1, cuts + 1):
        await one.chip.until_started(start)
        await asyncio.sleep(one.chance.random() * START_S)
        await one.chip.cut_power()
    assert not one.chip.record.is_kept
    one.chip.terminal.is_cut = False


async def hangs(play: Play) -> str:
    """An image that hangs: the watchdog starts it again until its starts are used up."""
    return await _reverted(play, "hangs", {End.BITE: 3})


async def crashes(play: Play) -> str:
    """An image that faults before its receiver runs."""
    return await _reverted(play, "crashes", {End.RESET: 3 + 1})


async def deaf(play: Play) -> str:
    """An image whose receiver hears nothing: it gives itself up when its trial is over."""
    return await _reverted(play, "deaf", {End.RESET: 1 + 1}, trial_s=TRIAL_S)


async def garbage(play: Play) -> str:
    """Bytes that are no image: the bootloader does not even start them."""
    async with stage(play) as one:
        await one.publish_image(play.chance.randbytes(SIZE))
        return await _taken_back(one, {End.RESET: 1})


async def noise(play: Play) -> str:
    """One byte in 2,000 is broken, in both directions."""
    return await _update_of(play, flip_rate=NOISE)


async def busy_20_ms(play: Play) -> str:
    """An application that takes 20 ms of each round."""
    return await _update_of(play, "busy20")


async def busy_100_ms(play: Play) -> str:
    """An application that takes 100 ms of each round."""
    return await _update_of(play, "busy100")


async def early(play: Play) -> str:
    """HELLO comes before `rcp_init()`: on trial, and at the start before it."""
    return await _update_of(play, "early")


async def deaf_at_each_page(play: Play) -> str:
    """An image that erases one page ahead, and loses what comes in 22 ms for each."""
    return await _update_of(play, "ahead")


SCENES: tuple[Scene, ...] = (
    update, cut_transfer, cut_swap, cut_trial, hangs, crashes, deaf, garbage, noise, busy_20_ms, busy_100_ms,
    early, deaf_at_each_page,
)  # fmt: skip
# Those that need nothing but the image: for a port that has no others.
SCENES_OF_ANY_PORT: tuple[Scene, ...] = (update, cut_transfer, noise)


async def _update_of(play: Play, name: str = "", **options: Any) -> str:
    """Update a chip that runs one of the images to the same again."""
    async with stage(play, name, **options) as one:
        before = one.chip.terminal.taken
        await one.publish(SIZE, name)
        await one.succeed()
        sent = one.chip.terminal.taken - before
        await _end_well(one)
        return f"{sent} bytes sent for {SIZE}"


async def _end_well(one: Stage) -> None:
    await one.end()
    one.assert_runs(one.version)
    assert one.chip.record.is_kept


async def _reverted(play: Play, name: str, ends: dict[End, int], **options: Any) -> str:
    async with stage(play, **options) as one:
        await one.publish(SIZE, name)
        return await _taken_back(one, ends)


async def _taken_back(one: Stage, ends: dict[End, int]) -> str:
    """The chip goes back to its first image, with as many resets and bites as it must; gatewayd says so."""
    status = await one.fail("reverted")
    await one.end()
    one.assert_runs(FIRST)
    record = one.chip.record
    assert record.has_reverted
    assert not record.is_kept
    for end, wanted in ends.items():
        assert one.chip.ends[end] == wanted, f"{one.chip.ends}, not {ends}"
    ends_seen = ", ".join(f"{count} by {end}" for end, count in one.chip.ends.items())
    return f"lives ended: {ends_seen}; {status['code']}"
