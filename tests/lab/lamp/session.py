"""The gateway's side of LAMP: a TransferSession, from what protocols share and a page of its own."""

import math
from collections import deque
from collections.abc import Callable

from gatewayd.protocol.image import ImageId
from gatewayd.protocol.request import Request
from gatewayd.protocol.session import (
    Activated,
    Armed,
    Confirmed,
    DeviceInfo,
    Event,
    Failed,
    Identified,
    Image,
    ImageState,
    Progress,
    Staged,
    Traffic,
    TransferStarted,
)
from gatewayd.protocol.silence import Heard, no_answer
from gatewayd.protocol.steps import Step, Update

CHUNK = 500
SHORTEST_ANSWER = 5  # armed


class LampSession:
    needs_response = False
    arms_first = True
    quiet_s = 0.0

    def __init__(self, baud: int) -> None:
        self.traffic = Traffic()
        self._baud = baud
        self._events: deque[Event] = deque()
        self._request: Request[str] | None = None
        self._answered: Callable[[list[str], float], None]
        self._heard = Heard()
        self._info: DeviceInfo | None = None
        self._is_armed = False
        self._image: Image | None = None

    def set_max_datagram(self, size_bytes: int) -> None:
        raise AssertionError(size_bytes)

    def identify(self, now: float, patience_s: float) -> None:
        request = Request.patient("who?", now, wire_s=0.0, interval_s=0.25, gives_up_at=now + patience_s)
        self._begin(request, self._on_who)

    def transfer(self, image: Image, now: float) -> None:
        self._image = image
        self._put(0, b"", now)

    def arm(self, now: float) -> None:
        assert self._image is not None
        self._ask(f"arm {self._image.id.digest.hex()}", self._on_armed, now)

    def activate(self, trial_s: int, now: float) -> None:
        assert trial_s > 0
        self._ask("boot", lambda _words, _now: None, now, rounds=1)

    def confirm(self, image: Image, now: float) -> None:
        assert self._info is not None
        assert self._info.running == image.id
        self._ask("keep", self._on_kept, now)

    def next_step(self, update: Update) -> Step:
        assert self._info is not None
        if update.image is not None and self._info.running == update.image:
            return Step.CONFIRM if self._info.image_state is ImageState.ON_TRIAL else Step.SUCCEED
        if self._is_armed and update.is_armed:
            return Step.RESTART
        return Step.FAIL_REVERTED if update.is_armed else Step.TRANSFER

    def has_restarted(self, update: Update) -> bool:
        assert update.is_armed
        return not self._is_armed

    def receive_data(self, data: bytes, now: float) -> None:
        self._heard.size += len(data)
        if self._request is not None:
            self._answered(data.decode().split(), now)

    def data_to_send(self, now: float) -> bytes:
        if self._request is None or not self._request.is_due(now):
            return b""
        self._request.mark_sent(now)
        return self._request.frame.encode()

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def rest_until(self) -> float:
        return -math.inf

    def next_deadline(self) -> float | None:
        return None if self._request is None else self._request.deadline()

    def handle_timeout(self, now: float) -> None:
        if self._request is None or not self._request.is_in_vain(now):
            return
        asked, after_s = self._request.frame, now - self._request.moved_at
        if asked == "boot":
            self._end(Activated(acknowledged=False))
        else:
            error = no_answer(asked, after_s, self._baud, self._heard, shortest_answer=SHORTEST_ANSWER)
            self._end(Failed(error))

    def _ask(
        self, words: str, answered: Callable[[list[str], float], None], now: float, rounds: int = 16
    ) -> None:
        self._begin(Request(words, now, wire_s=0.0, rounds=rounds), answered)

    def _begin(self, request: Request[str], answered: Callable[[list[str], float], None]) -> None:
        self._request, self._answered, self._heard = request, answered, Heard()

    def _put(self, offset: int, chunk: bytes | memoryview, now: float) -> None:
        assert self._image is not None
        name, size = self._image.id.digest.hex(), len(self._image.content)
        self._ask(f"put {size} {name} {offset} {bytes(chunk).hex()}", self._on_at, now)

    def _on_who(self, words: list[str], _now: float) -> None:
        if words[0] != "is":
            return
        _, version, crc, state = words
        self._is_armed = state == "armed"
        self._info = DeviceInfo(
            None,
            ImageState.ON_TRIAL if state == "trial" else ImageState.CONFIRMED,
            version=version,
            running=ImageId("crc32", bytes.fromhex(crc)),
            can_revert=True,
            boot_limit_s=5,
        )
        self._end(Identified(self._info))

    def _on_at(self, words: list[str], now: float) -> None:
        assert self._image is not None
        assert self._info is not None
        if words[0] != "at":
            return
        offset, content = int(words[1]), self._image.content
        is_first = self._request is not None and self._request.frame.endswith(" ")
        size = len(content)
        self._events.append(TransferStarted(offset, size) if is_first else Progress(offset, offset, size))
        if offset == size:
            self._end(Staged(self._info))
        else:
            self._put(offset, content[offset : offset + CHUNK], now)

    def _on_armed(self, words: list[str], _now: float) -> None:
        if words == ["armed"]:
            self._end(Armed())

    def _on_kept(self, words: list[str], _now: float) -> None:
        if words == ["kept"]:
            self._end(Confirmed())

    def _end(self, outcome: Event) -> None:
        self._request = None
        self._events.append(outcome)
