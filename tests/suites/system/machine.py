"""A Debian 13 with a systemd of its own, in namespaces of this machine.

systemd wants to be process 1 and to have the control groups for itself. So it gets new PID, mount and cgroup
namespaces, in which a fresh child of this machine's cgroup2 is the root; systemd-nspawn does the rest. That
works on a machine with systemd, on one without, and in a privileged container.
"""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# Far beyond what anything here takes on a busy machine; what runs into it is broken.
DEADLINE_S = 180.0
# Runs in the namespaces, as process 1 of the new one until systemd-nspawn takes its place. What nspawn keeps
# from a machine by default, bpf(2), systemd needs for DeviceAllow=.
_BOOT = """
mount -t proc proc /proc
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory="$1" --machine=barn-pi --keep-unit --register=no --private-network \
    --capability=all --system-call-filter=bpf --timezone=off --resolv-conf=off --console=pipe --boot
"""


class Machine:
    """After `end` all that ran in it is dead. Its tree is the caller's to remove."""

    def __init__(self, tree: Path) -> None:
        """Take over a Debian tree in a folder of its own."""
        self.tree = tree
        self.console = tree.with_name("console.log")
        self._group = _cgroup2() / f"gatewayd-system-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        """Start systemd, and wait until it has started what it wanted to."""
        self._group.mkdir()
        namespaces = ["unshare", "--mount", "--pid", "--cgroup", "--fork", "--kill-child"]
        command = ["setpriv", "--pdeathsig", "KILL", *namespaces, "sh", "-euc", _BOOT, "sh", str(self.tree)]
        with self.console.open("wb") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=lambda: (self._group / "cgroup.procs").write_text("0"),  # noqa: PLW1509 - no threads here
                start_new_session=True,  # Ctrl-C is for us to pass on
            )
        until(self._find_leader, "systemd-nspawn starts systemd")
        until(lambda: self.tree_path("/run/systemd/private").exists(), "systemd listens")
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def end(self) -> None:
        """Kill all that runs in it, and take its control group away; also when it is only half there."""
        if self._process is not None:
            (self._group / "cgroup.kill").write_text("1")
            self._process.wait(DEADLINE_S)
            self._process = None
        if self._group.exists():
            until(lambda: "populated 0" in (self._group / "cgroup.events").read_text(), "all are dead")
            for folder, _, _ in os.walk(self._group, topdown=False):
                Path(folder).rmdir()

    def run(
        self, *command: str | Path, check: bool = True, limit_s: float = DEADLINE_S, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in it."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "--root", "--wdns=/"]
        environment = {
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
        }
        environment |= {"SYSTEMD_PAGER": "cat", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*enter, "--", *map(str, command)],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        what, said = " ".join(map(str, command)), done.stdout[-3000:] + done.stderr[-3000:]
        assert not check or done.returncode == 0, f"{what}: exit {done.returncode}\n{said}"
        return done

    def shell(self, script: str, *, check: bool = True, limit_s: float = DEADLINE_S) -> str:
        """Run a script as root in it; returns what it prints."""
        return self.run("sh", "-euc", script, check=check, limit_s=limit_s).stdout.strip()

    def tree_path(self, path: str) -> Path:
        """Where a file of it is, seen from here: also what is on its /run, while it runs."""
        root = Path(f"/proc/{self._leader}/root") if self._leader else self.tree
        return root / path.lstrip("/")

    def last_words(self, lines: str) -> str:
        """Return the end of its journal, or what it printed while it had none."""
        if not self._leader:
            return self.console.read_text(errors="replace")
        return self.run("journalctl", "-n", lines, "--no-pager", check=False).stdout

    def _find_leader(self) -> bool:
        """Find its process 1, in our numbers: one of our control group, two namespaces below."""
        assert self._process is not None
        assert self._process.poll() is None, f"it does not boot:\n{self.console.read_text()}"
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._group.name not in (folder / "cgroup").read_text():
                    continue
                numbers = re.findall(r"(?m)^NSpid:\t(\d+)\t\d+\t1$", (folder / "status").read_text())
                if numbers and (folder / "comm").read_text() == "systemd\n":
                    self._leader = int(numbers[0])
        return self._leader > 0


def until(reached: Callable[[], object], what: str, limit_s: float = DEADLINE_S) -> None:
    """Wait for something that another process brings about. Raises AssertionError."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, f"waited {limit_s:.0f} s in vain: {what}"
        time.sleep(0.05)


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("no cgroup2 is mounted here, and systemd in the tree needs one")
