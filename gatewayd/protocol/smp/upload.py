"""The upload of one image: which chunk goes out when, and what an answer says about the next one. Pure.

The device owns the offset: each answer has the one it wants, even the answer to a chunk that it did not
accept. `wanted` is the last one it gave, `sent` is where we are; between them at most `window` requests are
in flight.

Answers come in the order of the requests, so the answer to one settles those before it: lost answers cost
nothing while later ones arrive. An answer below a chunk that was sent means that a chunk was lost: we go back
to what the device wants, and what was in flight becomes *stale*. A stale answer counts only if it has a
higher offset.

The window: a server has several buffers for frames, but on a UART its line buffers (often two) overflow when
a second request arrives while the first is written to flash. Two requests in flight use the whole line, apart
from framing; more gain nothing. A radio has no lines, and each way takes a connection event: three requests,
which with an answer are the four buffers that Zephyr has unless told otherwise. After two losses within a few
chunks it is one, and after a stretch without any, as before. A loss now and then is cheaper than one request
at a time.

A raw UART has no checksums, and a device that lost bytes of a request takes those of the next one in their
place. So only one request is in flight there, and a repetition waits until the device should have dropped
what it has (wire.py). Should it wait for longer, that does no harm: in these requests the offset comes after
the data, so that a request with a gap cannot be read, and is refused.

The awkward case is offset 0. A device that restarted and lost its state wants it, and only a request at 0 has
length and `sha`. It is sent alone and with no more than MCUboot's header: a device that knows the `sha`
answers with its offset, and only these 32 bytes were sent twice. The answer may also take half a minute,
since many servers erase the whole slot first.

Over Bluetooth a request may travel in several packets, and a server may be built without putting them
together: it refuses such a request, or is silent. Unless it has taken one already, all further requests are
no longer than one packet.

A server also wants offset 0 once it has everything and the last chunk is repeated because its answer was
lost. So after the last chunk was sent, 0 is no reason to begin again before the image state is known: the
upload is *in doubt*.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gatewayd.errors import DeviceError
from gatewayd.protocol.smp import cbor
from gatewayd.protocol.smp.frames import HEADER_SIZE

FIRST_DATA = 32  # the least that servers accept, MCUboot's header
WINDOW, RADIO_WINDOW = 2, 3
# With 20 ms of latency a loss costs what four to eight chunks do when they are sent one at a time.
_LOSSES = 2  # less than _ROW_CHUNKS apart: then one request at a time
_ROW_CHUNKS = 8
_CLEAN_CHUNKS = 8  # without a loss: two again; twice as many each time that this was too early
_MOST_CLEAN_CHUNKS = 1024
_ROUNDS = 16  # time-outs without an advance
_RADIO_ROUNDS = 8  # a radio loses nothing: half a minute of silence is the end of the connection
_FIRST_S = 40.0  # for erasing a slot; what other clients allow
_FIRST_PAUSE_S = 2.0
_PAUSE_S = 2.5  # before anything was measured: a server that erases as it goes
_PAUSE_FLOOR_S = 0.3
_PAUSE_CEILING_S = 5.0
_TURNAROUNDS = 4
_MAX_TURNAROUND_S = 2.0
_RESTARTS = 3  # of the device, without a byte more than before
_FRUITLESS = 64  # answers without an advance
_BUSY_PAUSE_S = 1.0
_SPLIT_ROUNDS = 4  # time-outs of a split request, some seconds, until the device seems unable to join it
_STALE = 8  # requests whose late answers are still understood


@dataclass(frozen=True, slots=True)
class Chunk:
    """A request in flight. `lands_at`: when its last byte has left the line; `is_split`: in two packets."""

    sequence: int
    offset: int
    end: int
    lands_at: float
    was_alone: bool
    is_split: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is uploaded.

    Attributes:
        room: the longest frame.
        wire_s: how long a frame of a size takes on the line.
        silence_s: the least pause before a request that follows an unanswered one.
        packet: what one packet of the link holds now, which may change; None: it has no packets.
    """

    content: memoryview
    sha: bytes
    image: int
    room: int
    window: int
    wire_s: Callable[[int], float]
    silence_s: float = 0.0
    packet: Callable[[], int | None] = lambda: None


class Upload:
    """See the module's text."""

    def __init__(self, plan: Plan, now: float, turnaround_s: float | None = None) -> None:
        self.wanted = 0
        self.highest = 0  # the most the device ever had in this upload
        self.has_started = False  # the device has answered the request at 0, or a later one
        self.window = 1
        self.turnaround_s = turnaround_s
        self.restarts = 0  # of the device, in this upload
        self.starts = 0  # how often the device was asked for its offset, and gave it
        self.start = 0  # the offset it gave
        self.repeated = 0  # bytes of the request made last that the device already had
        self.size = len(plan.content)
        self.is_in_doubt = False  # the device may have all of it, although it wants offset 0
        self._is_narrow = False  # each request fits one packet
        self._joins_packets = False  # the device has taken a request that was split
        self._has_sent_all = False
        self._plan = plan
        self._sent = 0
        self._flight: deque[Chunk] = deque()
        self._stale: deque[Chunk] = deque(maxlen=_STALE)
        self._line_free_at = now
        self._busy_until = now
        self._moved_at = now
        self._rounds = self._losses = self._fruitless = self._barren_restarts = 0
        self._clean, self._clean_wanted = 0, _CLEAN_CHUNKS

    @property
    def is_complete(self) -> bool:
        """Whether the device has all bytes."""
        return self.wanted == self.size

    def may_send(self, now: float) -> bool:
        """Whether the next request may go out."""
        if now < self._busy_until or self._sent >= self.size or self.is_in_doubt:
            return False
        is_alone = not (self.has_started and self._sent) or self._is_in_doubt_about_packets
        return len(self._flight) < (1 if is_alone else self.window)

    def next_request(self, sequence: int, now: float) -> dict[str, Any]:
        """Return the content of the next request, to be sent now with that sequence number."""
        offset, was_alone = self._sent, not self._flight
        head = self._head(offset)
        size = min(self._data_room(head), self.size - offset, *((FIRST_DATA,) if not offset else ()))
        data = {"data": bytes(self._plan.content[offset : offset + size])}
        request = {**data, **head} if self._plan.silence_s else {**head, **data}
        frame_size = HEADER_SIZE + len(cbor.encode(request))
        wire_s = self._plan.wire_s(frame_size)
        packet = self._plan.packet()
        is_split = packet is not None and frame_size > packet
        self._line_free_at = max(self._line_free_at, now) + wire_s
        self._sent = offset + size
        self._has_sent_all |= self._sent == self.size
        self.repeated = max(0, min(self._sent, self.highest) - offset)
        self._flight.append(Chunk(sequence, offset, self._sent, self._line_free_at, was_alone, is_split))
        return request

    def owns(self, sequence: int) -> bool:
        """Whether a request with that number is in flight."""
        return any(chunk.sequence == sequence for chunk in self._flight)

    def take(self, sequence: int, offset: int, now: float) -> bool:
        """Take an answer; return whether the device got further. Raises DeviceError."""
        chunk = self._settle(sequence)
        if chunk is None:
            return self._take_stale(sequence, offset, now)
        self._check(offset)
        self._measure(chunk, now)
        self._catch_up(chunk.lands_at - now)
        self._joins_packets |= chunk.is_split and offset >= chunk.end
        self._rounds = 0
        is_first = not self.has_started
        self.has_started = True
        if is_first:
            self.starts += 1
            self.start = offset if offset > chunk.end else chunk.offset
        if offset < self.wanted and not is_first:
            self._on_fall(offset)
        has_advanced = offset > self.wanted
        self._fruitless = 0 if has_advanced else self._fruitless + 1
        if offset > self.highest:
            self._barren_restarts = 0
        self.wanted, self._moved_at = offset, now
        self.highest = max(self.highest, offset)
        if offset >= self._sent or is_first:
            self._go_to(offset)
        elif offset < chunk.end:
            self._on_loss()
            self._go_to(offset)
        self._count_clean()
        self._check_fruitless()
        return has_advanced

    def begin_again(self, now: float) -> None:
        """Send it again: the device does not have it after all."""
        self.is_in_doubt = False
        self._moved_at = now

    def narrow(self) -> bool:
        """Go on with requests of one packet; False: that is no help, or the device can join several."""
        packet = self._plan.packet()
        if packet is None or not self._is_in_doubt_about_packets:
            return False
        least = {"off": 0, "len": self.size, "data": bytes(FIRST_DATA)}
        if HEADER_SIZE + len(cbor.encode(least)) > packet:
            return False
        self._is_narrow = True
        self._go_to(self.wanted)
        return True

    def wait(self, now: float) -> None:
        """Ask a little later: the device is busy and accepted nothing."""
        self._go_to(self.wanted)
        self._busy_until = now + _BUSY_PAUSE_S
        self.window = 1

    def deadline(self) -> float | None:
        """When `handle_timeout` is due."""
        if not self._flight:
            return None if self.is_complete else self._busy_until
        return max(self._flight[0].lands_at, self._busy_until) + self._pause_s()

    def handle_timeout(self, now: float) -> None:
        """Ask again if nothing arrived for too long. Raises DeviceError `stalled`."""
        due = self.deadline()
        if due is None or now < due or not self._flight:
            return
        self._rounds += 1
        rounds = _ROUNDS if self._plan.packet() is None else _RADIO_ROUNDS
        if self._rounds > rounds or (not self.has_started and now - self._moved_at > _FIRST_S):
            raise DeviceError(
                f"no answer to {self._rounds} requests at offset {self.wanted} of {self.size}",
                code="stalled",
                hint="the line may be noisy, or the device busy; the upload will resume from there",
            )
        if self.has_started:
            self._on_loss()
            self.window = self.window if self._rounds == 1 else 1
        if self._rounds >= _SPLIT_ROUNDS and self._flight[0].is_split:
            self.narrow()
        self._go_to(self.wanted)

    # -- helpers

    @property
    def _is_in_doubt_about_packets(self) -> bool:
        """Whether the device was or will be sent a split request, and has not taken one yet."""
        packet = self._plan.packet()
        return packet is not None and self._room > packet and not self._joins_packets

    @property
    def _room(self) -> int:
        """The longest frame."""
        packet = self._plan.packet() if self._is_narrow else None
        return self._plan.room if packet is None else min(packet, self._plan.room)

    def _head(self, offset: int) -> dict[str, Any]:
        image = {"image": self._plan.image} if self._plan.image else {}
        if offset:
            return {"off": offset}
        head = {**image, "off": 0, "len": self.size, "sha": self._plan.sha}
        if self._data_room(head) < FIRST_DATA:  # buffers of 96 bytes: better no resume than no upload
            del head["sha"]
        return head

    def _data_room(self, head: dict[str, Any]) -> int:
        """Return how many bytes fit beside the other fields."""
        left = self._room - HEADER_SIZE - len(cbor.encode({**head, "data": b""})) + 1
        return max(left - size for size in (1, 2, 3, 5) if cbor.head_size(max(left - size, 0)) <= size)

    def _settle(self, sequence: int) -> Chunk | None:
        """Take a chunk and those before it out of the flight."""
        if not self.owns(sequence):
            return None
        while True:
            chunk = self._flight.popleft()
            if chunk.sequence == sequence:
                return chunk

    def _take_stale(self, sequence: int, offset: int, now: float) -> bool:
        """Take a late answer: the device has at least that much."""
        if all(chunk.sequence != sequence for chunk in self._stale):
            return False
        if not self.wanted < offset <= self._most():
            return False
        self.wanted, self._moved_at = offset, now
        self.highest = max(self.highest, offset)
        self.starts += not self.has_started
        self.has_started = True
        self._rounds = self._fruitless = 0
        if offset >= self._sent:
            self._go_to(offset)
        return True

    def _go_to(self, offset: int) -> None:
        self._stale.extend(self._flight)
        self._flight.clear()
        self._sent = offset

    def _check(self, offset: int) -> None:
        most = self._most()
        if offset > most:
            raise DeviceError(
                f"the device wants offset {offset}; {most} of the image's {self.size} bytes were sent",
                code="bad_offset",
                hint="its receiver is broken: report its firmware to its maker",
            )

    def _most(self) -> int:
        """Return the highest offset that the device can want; before its first answer that is any."""
        ends = (chunk.end for chunk in self._stale)
        return max(self.highest, self._sent, *ends) if self.has_started else self.size

    def _on_fall(self, offset: int) -> None:
        """Note that the device has less than before: at 0 it restarted, elsewhere it misbehaves."""
        if offset == 0:
            self.is_in_doubt, self._has_sent_all = self._has_sent_all, False
            self.restarts += 1
            self.has_started = False
        self._barren_restarts += 1
        if self._barren_restarts > _RESTARTS:
            raise DeviceError(
                f"the device had {self.highest} bytes and wants offset {offset} again, for the"
                f" {self._barren_restarts}th time",
                code="keeps_restarting" if offset == 0 else "backwards",
                hint="look at its power supply, its watchdog and its console",
            )

    def _on_loss(self) -> None:
        self._losses += 1
        self._clean = 0
        if self.window > 1 and self._losses >= _LOSSES:
            self.window = 1
            self._clean_wanted = min(2 * self._clean_wanted, _MOST_CLEAN_CHUNKS)

    def _count_clean(self) -> None:
        """Widen the window: immediately at first, later after a stretch without a loss."""
        self._clean += 1
        wanted = _ROW_CHUNKS if self.window > 1 else self._clean_wanted
        if self._clean >= wanted or (not self._losses and self.wanted):
            self._losses = 0
            self._clean = 0
            self.window = min(WINDOW if self._plan.packet() is None else RADIO_WINDOW, self._plan.window)

    def _check_fruitless(self) -> None:
        if self._fruitless > _FRUITLESS:
            raise DeviceError(
                f"the device answers but stays at offset {self.wanted} of {self.size}",
                code="stalled",
                hint="look at its console; its flash may be bad",
            )

    def _measure(self, chunk: Chunk, now: float) -> None:
        if not chunk.was_alone or not chunk.offset:
            return
        sample = min(max(0.0, now - chunk.lands_at), _MAX_TURNAROUND_S)
        known = self.turnaround_s
        self.turnaround_s = sample if known is None else known + (sample - known) / 4

    def _catch_up(self, early_s: float) -> None:
        """Note that the line is faster than assumed, as a radio is: what is behind lands earlier, too."""
        if early_s > 0:
            self._line_free_at -= early_s
            self._flight = deque(replace(one, lands_at=one.lands_at - early_s) for one in self._flight)

    def _pause_s(self) -> float:
        if not self.has_started:
            pause = _FIRST_PAUSE_S
        elif self.turnaround_s is None:
            pause = _PAUSE_S
        else:
            pause = max(_PAUSE_FLOOR_S, _TURNAROUNDS * self.turnaround_s)
        pause = max(pause, self._plan.silence_s)
        return float(min(pause * 2 ** min(self._rounds, 8), max(pause, _PAUSE_CEILING_S)))
