"""The receiver in C on its bench (device/lab/), used like gatewayd.simulator.receiver.Receiver.

The library is built when it is needed. Flash, line and power are simulated in C, where a power cut can end
the receiver in the middle of an operation; the bootloader is the simulator's.
"""

import ctypes
import dataclasses
import hashlib
import itertools
import math
import subprocess
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gatewayd.protocol.session import ImageState
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryFileStore
from gatewayd.simulator.profile import DeviceProfile

DEVICE = Path(__file__).parents[2] / "device"
FRAME_ROOM = 512
U32 = ctypes.c_uint32
_WRAPS_AT_MS = 2**32
_STARTS_AT_MS = _WRAPS_AT_MS - 30_000  # the device's clock wraps half a minute into each test
_STATES = ("IDLE", "RECV", "FULL", "STAGED", "PREPARE", "HASH", "ACTIVATING", "RESTART")
_BUILD_S = 200


class _Setup(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("app_id", "hardware_id", "device_id")),
        *(
            (name, U32)
            for name in (
                *("features", "boot_time_s", "base_baud", "max_baud", "max_frame", "window", "rx_ring"),
                *("slot_size", "erase_block", "write_unit", "journal_area", "erase_ahead", "erase_ms"),
                *("has_slot_address", "slot_address", "deaf", "torn_unreadable", "seed", "packet"),
            )
        ),
    ]


class _Boot(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_char_p),
        ("running_sha256", ctypes.c_char_p),
        ("reverted_sha256", ctypes.c_char_p),
        ("boot_id", U32),
        ("on_trial", U32),
    ]


class View(ctypes.Structure):
    """lab_view_t of device/lab/lab.h."""

    _fields_ = [
        *(
            (name, U32)
            for name in (
                *(
                    "now_ms",
                    "operations",
                    "cut_at",
                    "cut_how",
                    "fail_at",
                    "flip_at",
                    "refuse",
                    "unsound",
                    "out_size",
                ),
                *("baud", "idle_ms", "deaf_until", "power_lost", "restart", "flag_size", "flag_trial_s"),
                *("confirmed", "state", "durable", "erased", "generation", "most_erases", "events"),
            )
        ),
        ("flag_sha256", ctypes.c_uint8 * 32),
        ("offered", ctypes.c_char * 64),
    ]


@cache
def library(path: str = "", *, ble: bool = False) -> ctypes.CDLL:
    """The bench, for streams or for packets; built first unless a path is given."""
    if not path:
        built = subprocess.run(
            ["make", "-s", "-C", DEVICE, "lab"], capture_output=True, text=True, timeout=_BUILD_S, check=False
        )
        assert built.returncode == 0, built.stderr
    lab = ctypes.CDLL(path or str(DEVICE / "build" / f"librcp-lab{'-ble' * ble}.so"))
    handle, text, view = ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(View)
    cells = ctypes.POINTER(ctypes.c_uint8)
    for name, result, *arguments in (
        ("new", handle, ctypes.POINTER(_Setup)),
        ("free", None, handle),
        ("view", view, handle),
        ("flash", cells, handle),
        ("unreadable", cells, handle),
        ("erases", ctypes.POINTER(U32), handle),
        ("events", ctypes.POINTER(U32), handle),
        ("flash_size", U32, handle),
        ("boot", None, handle, ctypes.POINTER(_Boot)),
        ("connect", None, handle, U32),
        ("feed", None, handle, text, U32),
        ("queue", None, handle, text, U32),
        ("run", None, handle),
        ("take", U32, handle, text, U32),
    ):
        function = getattr(lab, f"lab_{name}")
        function.restype, function.argtypes = result, arguments
    return lab


class CFlash:
    """The simulated NOR flash: journal (two areas), then the slot."""

    def __init__(self, lab: ctypes.CDLL, handle: int, profile: DeviceProfile) -> None:
        self.slot = 2 * profile.journal_area
        self._profile = profile
        self._view: View = lab.lab_view(handle).contents
        self._size = lab.lab_flash_size(handle)
        self.cells = lab.lab_flash(handle)
        self._unreadable = lab.lab_unreadable(handle)
        self._erases = lab.lab_erases(handle)

    @property
    def operations(self) -> int:
        """Erases, unit writes, boot flag and confirmation so far."""
        return int(self._view.operations)

    @property
    def cut_at(self) -> int | None:
        """The operation in which power will fail, once."""
        return self._view.cut_at or None

    @cut_at.setter
    def cut_at(self, operation: int | None) -> None:
        self._view.cut_at = operation or 0

    def cut_before(self) -> None:
        """Have the planned cut come before its operation, not in the middle of it."""
        self._view.cut_how = 1

    def fail_at(self, operation: int) -> None:
        """Have an operation report a failure."""
        self._view.fail_at = operation

    def flip_at(self, operation: int) -> None:
        """Have a write leave one bit as it was."""
        self._view.flip_at = operation

    @property
    def unsound(self) -> int:
        """How often it did what no NOR flash can: write what is not blank, or beside an edge."""
        return int(self._view.unsound)

    @property
    def erases(self) -> dict[int, int]:
        """Block number -> how often erased."""
        counts = self._erases[: self._size // self._profile.erase_block]
        return {block: count for block, count in enumerate(counts) if count}

    def read(self, address: int, size: int) -> bytes:
        """Return cells, readable or not."""
        return bytes(self.cells[address : address + size])

    def make_unreadable(self, address: int) -> None:
        """DecodeProfile the unit at an address fails from now on, until it is erased."""
        self._unreadable[address // self._profile.write_unit] = 1


class CReceiver:
    """A device whose receiver is device/rcp.c. See gatewayd.simulator.receiver.Receiver."""

    def __init__(
        self,
        profile: DeviceProfile,
        *,
        bootloader: Bootloader | None = None,
        boot_ids: Iterator[int] | None = None,
        erase_ahead: int | None = None,
        deaf: bool = False,
        torn_unreadable: bool = False,
        tells_revert: bool = True,
        seed: int = 1,
        library_path: str = "",
        max_datagram: int | None = None,
        now: float = 0.0,
    ) -> None:
        self.bootloader = bootloader or Bootloader(MemoryFileStore(), profile)
        self.profile = profile = self.bootloader.profile
        self._lab = library(library_path, ble=max_datagram is not None)
        setup = _setup(
            profile, erase_ahead=erase_ahead, deaf=deaf, torn_unreadable=torn_unreadable, seed=seed
        )
        if max_datagram is not None:
            setup.packet = max_datagram
            setup.features = 2 * profile.can_revert + 4 * profile.can_short_data
        self._handle: int | None = self._lab.lab_new(ctypes.byref(setup))
        if self._handle is None:
            raise ValueError(f"rcp_check() says no to {profile}")
        weakref.finalize(self, self._lab.lab_free, self._handle)
        self._view: View = self._lab.lab_view(self._handle).contents
        self.flash = CFlash(self._lab, self._handle, profile)
        self._boot_ids = boot_ids or itertools.count(1)
        self._tells_revert = tells_revert
        self._flagged: bytes | None = None
        self.says_on_trial = False  # whatever the bootloader knows
        self.starts = 0  # how often the bootloader started a new image
        self.boots = 0
        self.files = MemoryFileStore()  # where c_device() put the images
        self._bootloader_waits = False
        self._is_on = False
        self._boot_at = now
        self._boot(now)

    @property
    def baud(self) -> int:
        """The speed it sends and listens at."""
        return int(self._view.baud)

    @property
    def state(self) -> str:
        """The state of protocol.md, section 10."""
        return _STATES[self._view.state] if self._is_on else "OFF"

    @property
    def durable(self) -> int:
        """What its journal knows of the image."""
        return int(self._view.durable)

    @property
    def erased(self) -> int:
        """How much of the slot is erased, from its beginning."""
        return int(self._view.erased)

    @property
    def most_erases(self) -> int:
        """How many blocks it erased in one rcp_poll(), at most."""
        return int(self._view.most_erases)

    @property
    def events(self) -> list[tuple[int, int]]:
        """What it told, with the numbers; of a library with RCP_EVENTS."""
        told = self._lab.lab_events(self._handle)
        return [(told[2 * at], told[2 * at + 1]) for at in range(self._view.events)]

    @property
    def running_image(self) -> bytes | None:
        """The image it runs; None for the factory's."""
        return self.bootloader.image

    @property
    def running_version(self) -> str:
        """The version it runs."""
        return self.bootloader.version

    def refuse_with(self, answer: int) -> None:
        """What the OFFER hook answers from now on."""
        self._view.refuse = answer

    def connect(self, max_datagram: int) -> None:
        """A gateway has connected anew to a device on a datagram link."""
        self._lab.lab_connect(self._handle, max_datagram)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes as they come from the line, or one packet. Lost while off."""
        if self._is_on:
            self._set_clock(now)
            self._lab.lab_feed(self._handle, data, len(data))
            self._look(now)

    def queue(self, data: bytes) -> None:
        """Have the interrupt put bytes into the ring while the main loop is elsewhere."""
        self._lab.lab_queue(self._handle, data, len(data))
        self._view.idle_ms = 0  # it will be polled at once

    def data_to_send(self, now: float) -> bytes:
        """Return the next frame to put on the line, at the `baud` there was before the call; or nothing."""
        if not self._is_on:
            return b""
        self._set_clock(now)
        frame = ctypes.create_string_buffer(FRAME_ROOM)
        size = self._lab.lab_take(self._handle, frame, FRAME_ROOM)
        return frame.raw[:size]

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is due."""
        if not self._is_on:
            return self._boot_at
        due = [] if self._trial_ends is None else [self._trial_ends]
        if self._view.idle_ms != _WRAPS_AT_MS - 1:
            deaf_ms = (self._view.deaf_until - self._polled_ms - _STARTS_AT_MS) % _WRAPS_AT_MS
            wait_ms = max(self._view.idle_ms, deaf_ms if deaf_ms < _WRAPS_AT_MS // 2 else 0)
            due.append((self._polled_ms + wait_ms) / 1000)
        return min(due, default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what has fallen due; harmless when nothing has."""
        self._set_clock(now)
        if not self._is_on:
            if now >= self._boot_at:
                self._boot(now)
        elif self._trial_ends is not None and now >= self._trial_ends:
            self.power_cut(now)
        else:
            self._lab.lab_run(self._handle)
            self._look(now)

    def power_cut(self, now: float) -> None:
        """Lose the power in this instant; it comes back at once, and the device boots."""
        self._is_on = False
        self._boot_at = now + self.profile.boot_s

    def bootloader_waits(self) -> None:
        """From now on nothing but the receiver ends a trial."""
        self._bootloader_waits = True

    @property
    def _trial_ends(self) -> float | None:
        return None if self._bootloader_waits else self.bootloader.trial_ends

    def _boot(self, now: float) -> None:
        self.boots += 1
        self.starts += self.bootloader.boot(now).startswith("starts")
        trial_ends = self.bootloader.trial_ends
        boot_id = next(self._boot_ids)
        if trial_ends is not None and self.profile.break_after_activate:
            self._boot_at = trial_ends  # the image never gets as far as its receiver
            return
        image = self.bootloader.image
        boot = _Boot(
            version=self.bootloader.version.encode(),
            running_sha256=None if image is None else hashlib.sha256(image).digest(),
            reverted_sha256=self._reverted() if self._tells_revert else None,
            boot_id=boot_id,
            on_trial=trial_ends is not None or self.says_on_trial,
        )
        self._set_clock(now)
        self._is_on = True
        self._lab.lab_boot(self._handle, ctypes.byref(boot))
        self._look(now)

    def _reverted(self) -> bytes | None:
        is_reverted = self.bootloader.image_state(self._flagged) is ImageState.REVERTED
        return self._flagged if is_reverted else None

    def _look(self, now: float) -> None:
        """Do what the receiver asked of its bootloader, and of its power."""
        view = self._view
        self._polled_ms = self._now_ms
        if view.flag_size:
            image = self.flash.read(self.flash.slot, view.flag_size)
            trial_s = min(view.flag_trial_s, self.profile.trial_cap_s)
            self.bootloader.set_flag(image, view.offered.decode(), trial_s)
            self._flagged = bytes(view.flag_sha256)
            view.flag_size = 0
        if view.confirmed:
            self.bootloader.confirm()
            view.confirmed = 0
        if view.power_lost or view.restart:
            self.power_cut(now)

    def _set_clock(self, now: float) -> None:
        self._now_ms = math.floor(now * 1000 + 1e-6)
        self._view.now_ms = (self._now_ms + _STARTS_AT_MS) % _WRAPS_AT_MS


def c_device(profile: DeviceProfile, running: bytes | None = None, **options: object) -> CReceiver:
    """A device with the receiver in C that runs an image."""
    files = MemoryFileStore()
    if running is not None:
        files.write("active.bin", running)
    device = CReceiver(profile, bootloader=Bootloader(files, profile), **options)  # type: ignore[arg-type]  # by name
    device.files = files
    return device


def _setup(
    profile: DeviceProfile, *, erase_ahead: int | None, deaf: bool, torn_unreadable: bool, seed: int
) -> _Setup:
    kept = {
        name: value
        for name, value in dataclasses.asdict(profile).items()
        if hasattr(_Setup, name) and value is not None
    }
    if erase_ahead is None:
        erase_ahead = profile.slot_size if profile.erase_s else profile.erase_block
    texts = {name: value.encode() for name, value in kept.items() if isinstance(value, str)}
    return _Setup(
        **{
            **kept,
            **texts,
            "features": profile.can_set_baud + 2 * profile.can_revert,
            "journal_area": profile.journal_area,
            "erase_ahead": erase_ahead,
            "erase_ms": round(profile.erase_s * 1000),
            "has_slot_address": profile.slot_address is not None,
            "deaf": deaf,
            "torn_unreadable": torn_unreadable,
            "seed": seed,
        }
    )
