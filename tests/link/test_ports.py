"""What ports are called, and which may reset a board; who has one open."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serial.tools.list_ports_linux import SysFS

from gatewayd.link import ports
from gatewayd.link.holders import Holder, find_holder
from gatewayd.link.ports import Kind, classify, machine_ports, make_port, named_port, twins_among

USB_PATH = "/sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.3/1-1.3:1.0/ttyUSB0"
BY_ID, BY_PATH = "/dev/serial/by-id/usb-FTDI_A1-if00-port0", "/dev/serial/by-path/usb-0:1.3:1.0-port0"


def usb(name: str = "ttyUSB0", **facts: object) -> SysFS:
    info = SysFS(f"/dev/{name}")
    facts = {"vid": 0x0403, "pid": 0x6001, "serial_number": "A1", "description": "FT232R"} | facts
    for key, value in ({"subsystem": "usb-serial", "device_path": USB_PATH} | facts).items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("subsystem", "path", "kind", "may_reset"),
    [
        ("usb-serial", USB_PATH, Kind.USB, True),
        ("usb", "/sys/devices/pci0000:00/usb1/1-1/1-1:1.0", Kind.USB, True),
        ("amba", "/sys/devices/platform/soc/3f201000.serial", Kind.BUILT_IN, False),
        ("serial-base", "/sys/devices/platform/soc/3f201000.serial/3f201000.serial:0", Kind.BUILT_IN, False),
        ("platform", "/sys/devices/platform/soc/2020000.serial", Kind.BUILT_IN, False),
        ("platform", "/sys/devices/platform/axi/1000120000.pcie/1f00030000.serial", Kind.BUILT_IN, False),
        ("serial-base", "/sys/devices/pnp0/00:00/00:00:0/00:00:0.0", Kind.BUILT_IN, True),
        ("pnp", "/sys/devices/pnp0/00:00", Kind.BUILT_IN, True),
        ("pci", "/sys/devices/pci0000:00/0000:00:16.3", Kind.BUILT_IN, True),
        ("platform", "/sys/devices/platform/serial8250", Kind.BUILT_IN, True),
        ("bluetooth", "/sys/devices/virtual/bluetooth/hci0:11", Kind.OTHER, True),
    ],
)
def test_only_a_port_without_modem_lines_is_safe_to_open(
    subsystem: str, path: str, kind: Kind, may_reset: bool
) -> None:
    assert classify(subsystem, path) == (kind, may_reset)


def test_a_port_is_called_by_id_then_by_path_then_by_its_node() -> None:
    for links, name in (
        ({"/dev/ttyUSB0": [BY_ID, BY_PATH]}, BY_ID),
        ({"/dev/ttyUSB0": [BY_PATH]}, BY_PATH),
        ({"/dev/ttyUSB1": [BY_ID]}, "/dev/ttyUSB0"),
    ):
        port = make_port(usb(), links, is_twin=False)
        assert (port.name, port.node, port.description) == (name, "/dev/ttyUSB0", "FT232R")
        assert port.may_reset


def test_twins_without_serial_numbers_are_told_apart_by_path() -> None:
    twins = [usb("ttyUSB0", serial_number=None), usb("ttyUSB1", serial_number=None)]
    others = [usb("ttyUSB2", pid=1, serial_number=None), usb("ttyUSB3"), usb("ttyUSB4", serial_number="A2")]
    assert twins_among([*twins, *others]) == {"/dev/ttyUSB0", "/dev/ttyUSB1"}
    links = {"/dev/ttyUSB0": [BY_ID, BY_PATH]}
    assert make_port(twins[0], links, is_twin=True).name == BY_PATH


def test_so_are_twins_with_one_serial_number_and_the_ports_of_one_adapter_are_no_twins() -> None:
    def port(name: str, adapter: str, interface: str, **facts: object) -> SysFS:
        path = f"/sys/devices/usb1/{adapter}"
        return usb(name, usb_device_path=path, usb_interface_path=f"{path}/{adapter}:{interface}", **facts)

    cloned = [port("ttyUSB0", "1-1.2", "1.0"), port("ttyUSB1", "1-1.3", "1.0")]
    one_adapter = [
        port("ttyUSB2", "1-1.4", "1.0", serial_number="B"),
        port("ttyUSB3", "1-1.4", "1.1", serial_number="B"),
    ]
    several = [
        port("ttyS90", "1-1.5", "1.0", serial_number="C"),
        port("ttyS91", "1-1.5", "1.0", serial_number="C"),
    ]
    assert twins_among([*cloned, *one_adapter, *several]) == {"/dev/ttyUSB0", "/dev/ttyUSB1"}


def test_the_ports_of_this_machine_have_hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ttys = tmp_path / "tty"
    for name, type_ in (("ttyS10", "4"), ("ttyS2", "4"), ("ttyS3", "0")):
        (ttys / name / "device").mkdir(parents=True)
        (ttys / name / "type").write_text(f"{type_}\n")
    (ttys / "tty1").mkdir()
    (ttys / "console").mkdir()
    (ttys / "console" / "active").write_text("tty0 ttyS2\n")
    monkeypatch.setattr(ports, "_TTYS", ttys)
    found = machine_ports()
    assert [port.node for port in found] == ["/dev/ttyS2", "/dev/ttyS10"]
    assert [port.is_console for port in found] == [True, False]


def test_a_port_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    link = tmp_path / "pump"
    link.symlink_to(os.ttyname(slave))
    port = named_port(str(link))
    assert (port.name, port.node) == (str(link), os.ttyname(slave))
    assert (port.kind, port.may_reset) == (Kind.PTY, False)
    os.close(master)
    os.close(slave)
    monkeypatch.chdir(tmp_path)
    missing = named_port("none")
    assert (missing.name, missing.node, missing.may_reset) == (f"{tmp_path}/none", f"{tmp_path}/none", False)


def test_a_tty_that_is_named_gets_its_stable_name_and_a_link_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_look_up", usb)
    stable = make_port(usb(), {"/dev/ttyUSB0": [BY_ID]}, is_twin=False)
    monkeypatch.setattr(ports, "machine_ports", lambda: (stable,))
    assert named_port("/dev/ttyUSB0") == stable
    (tmp_path / "mine").symlink_to("/dev/ttyUSB0")
    mine = named_port(str(tmp_path / "mine"))
    assert (mine.name, mine.node, mine.may_reset) == (f"{tmp_path}/mine", "/dev/ttyUSB0", True)


# Each opens the port, says so, and waits for the end of its stdin.
OPEN = (
    "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
)
LOGIN = """
import os, sys
os.setsid()
os.close(os.open(sys.argv[1], os.O_RDWR))
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def process(program: str, path: str) -> Iterator[int]:
    command = [sys.executable, "-c", program, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running.pid
        assert running.stdin is not None
        running.stdin.close()


@pytest.fixture
def terminal() -> Iterator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


CONTAINER = """
import fcntl, os, struct, subprocess, sys
subprocess.run(["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "none", "/dev/pts"], check=True)
masters = [os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY) for _ in range(NUMBER + 1)]
if os.fork():  # who holds the other end would not count anyway
    os.wait()
    sys.exit()
fcntl.ioctl(masters[NUMBER], 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlock
slave = os.open("/dev/pts/NUMBER", os.O_RDWR | os.O_NOCTTY)
for master in masters:
    os.close(master)
print(f"/dev/pts/{os.fstat(slave).st_rdev & 0xff}", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("program", [OPEN, LOGIN], ids=["open", "controlling terminal"])
def test_who_has_a_port_open_is_named(terminal: str, program: str, tmp_path: Path) -> None:
    assert find_holder(terminal) is None, "this process does not count"
    link = tmp_path / "link"
    link.symlink_to(terminal)
    with process(program, terminal) as pid:
        holder = find_holder(link)
        assert holder is not None
        assert holder.pid == pid
        assert str(holder) == f"{holder.name} (process {pid})"
        assert holder.name.startswith("python")
    assert find_holder(terminal) is None


def test_a_containers_terminal_of_the_same_number_is_another_one(terminal: str) -> None:
    """As in a container: its own devpts, whose terminals are numbered from 0 again."""
    number = Path(terminal).name
    program = CONTAINER.replace("NUMBER", number)
    unshare = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", program]
    with subprocess.Popen(unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{terminal}\n"
        assert find_holder(terminal) is None
        assert child.stdin is not None
        child.stdin.close()


CUT = "терминал".encode()[:15]  # as the kernel cuts it
FOREIGN = f"open('/proc/self/comm', 'wb', 0).write({CUT!r}); {OPEN}"


def test_a_holder_whose_name_was_cut_in_the_middle_of_a_letter_is_found(terminal: str) -> None:
    with process(FOREIGN, terminal) as pid:
        holder = find_holder(terminal)
        assert holder is not None
        assert (holder.pid, holder.name[:7]) == (pid, CUT[:14].decode())


DEVICE = """
import os, pty, sys
master, slave = pty.openpty()
print(os.ttyname(slave), flush=True)
sys.stdin.read()
"""


def test_the_device_behind_a_pseudo_terminal_is_no_user_of_it() -> None:
    command = [sys.executable, "-c", DEVICE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as device:
        assert device.stdout is not None
        path = device.stdout.readline().strip()
        assert find_holder(path) is None
        with process(OPEN, path) as pid:
            assert find_holder(path) == Holder(Path(f"/proc/{pid}/comm").read_text().strip(), pid)
        assert device.stdin is not None
        device.stdin.close()
