"""`make test-install`: `make install` on a clean Debian 12 with a real systemd, and what is promised."""

import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import click
from lab.deb import ROOT

from suites.install.tree import CLONE, WHEELS, make_tree
from suites.system.machine import Machine, until
from suites.system.table import Table

CONFIG = "/etc/gatewayd/config.yaml"
DOC = "/usr/local/share/doc/gatewayd"
SCORE_LIMIT = 1.5
INSTALL_LIMIT_S = 300.0
UPDATE_LIMIT_S = 240.0
# pip, without a network.
OFFLINE = f"cd /{CLONE}; export PIP_NO_INDEX=1 PIP_FIND_LINKS=/{WHEELS}"
STAGE = "/srv/stage"
UNITS = sorted(path.name for path in (ROOT / "systemd").glob("*.service"))
DROP_INS = "/run/systemd/system/gatewayd.service.d"
JOURNAL_LINES = "120"
PAGES = ("8 gatewayd", "8 gatewayd-web", "1 gatewayctl", "5 gatewayd.yaml")
# What a machine has below these before, between and after.
FILES = "find /opt /usr/local /etc -xdev -not -name '*.pyc' -not -name __pycache__ -not -name '*-' | sort"
# Not the installation's: users of a system, what systemd notes of itself, and what is meant to stay.
KEPT = re.compile(
    r"/etc/gatewayd(/.*)?|/etc/systemd/system/multi-user\.target\.wants|/etc/\.?(pwd\.lock|.*\.cache)"
)


def it_is_laid_out_below_destdir(machine: Machine) -> str:
    """`make install DESTDIR=...`, not as root: files alone, and none that knows that folder."""
    machine.shell(
        f"""
        {OFFLINE}
        mkdir -m 777 {STAGE}
        chmod 755 /root
        setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/tmp DESTDIR={STAGE} .ci/install
        """,
        limit_s=INSTALL_LIMIT_S,
    )
    assert machine.run("grep", "-rlI", STAGE, STAGE, check=False).stdout == ""
    assert machine.run("id", "gatewayd", check=False).returncode != 0, "the machine has no new user"
    assert machine.shell("find /opt -mindepth 1") == ""
    programs = machine.shell(f"ls {STAGE}/usr/local/bin").split()
    assert programs == ["gatewayctl", "gatewayd", "gatewayd-web"]
    machine.run("rm", "-r", STAGE)
    return " ".join(programs)


def it_is_installed(machine: Machine) -> str:
    """`make install`: the service runs without devices, as its own user, and is enabled."""
    machine.tree_path("/root/before").write_text(machine.shell(FILES))
    said = machine.shell(f"{OFFLINE}; make install", limit_s=INSTALL_LIMIT_S)
    until(lambda: status(machine) == "no devices configured", "it says what it does")
    assert machine.shell("systemctl is-active gatewayd; systemctl is-enabled gatewayd").split() == [
        "active",
        "enabled",
    ]
    assert machine.shell("id -Gn gatewayd") == "gatewayd dialout bluetooth"
    assert machine.shell(f"stat -c '%a %U:%G' {CONFIG}") == "640 root:gatewayd"
    return said.splitlines()[-1]


def its_unit_is_understood(machine: Machine) -> str:
    """An older systemd finds no unknown word in the units, and they are as shut in as on Debian 13."""
    verified = machine.run("systemd-analyze", "verify", *UNITS, check=False)
    assert verified.stdout + verified.stderr == ""
    scores = []
    for unit in UNITS:
        said = machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
        scores.append(float(re.findall(r"Overall exposure level.*?: ([0-9.]+)", said)[-1]))
    assert max(scores) <= SCORE_LIMIT, scores
    return f"{machine.run('systemctl', '--version').stdout.splitlines()[0]}; security {scores}"


def its_manual_and_completion_are_there(machine: Machine) -> str:
    """`man` finds all pages, and each names the documentation where it is."""
    for page in PAGES:
        said = machine.shell(f"man --warnings -E UTF-8 {page} 2>&1")
        assert said.splitlines()[0].startswith(page.split()[1].upper()), said
    assert DOC in machine.shell("man 8 gatewayd")
    machine.shell(
        f"bash -n /usr/local/share/bash-completion/completions/gatewayctl; test -s {DOC}/docs/operations.md"
    )
    return ", ".join(PAGES)


def it_updates_a_device(machine: Machine) -> str:
    """The package's own test: from mosquitto to the receiver in the documentation, compiled there."""
    return machine.shell(f"DOC={DOC} sh /{CLONE}/debian/tests/service", limit_s=UPDATE_LIMIT_S).splitlines()[
        -1
    ]


def it_takes_a_credential(machine: Machine) -> str:
    """The drop-in in docs/install.md hands over what is in /etc/credstore."""
    text = (ROOT / "docs" / "install.md").read_text()
    drop_in = textwrap.dedent(text.partition("```ini\n")[2].partition("```")[0])
    machine.shell(
        f"""
        install -D -m 600 /dev/null /etc/credstore/gatewayd.mqtt-password
        echo secret >/etc/credstore/gatewayd.mqtt-password
        mkdir -p {DROP_INS}
        printf '%s' '{drop_in}' >{DROP_INS}/test.conf
        systemctl daemon-reload
        systemctl restart gatewayd
        """
    )
    said = machine.shell("head /run/credentials/gatewayd.service/*")
    machine.shell(f"rm -r {DROP_INS} /etc/credstore; systemctl daemon-reload; systemctl restart gatewayd")
    assert said == "secret", said
    return drop_in.splitlines()[-1].strip()


def it_is_installed_again(machine: Machine) -> str:
    """`make install` over it: another process, the same configuration, jobs and modes."""
    machine.shell(f"echo '# edited' >>{CONFIG}; chmod 644 {CONFIG}")
    jobs = machine.shell("gatewayctl jobs")
    before = machine.shell("systemctl show -P MainPID gatewayd")
    machine.shell(f"{OFFLINE}; make install", limit_s=INSTALL_LIMIT_S)
    assert machine.shell("systemctl show -P MainPID gatewayd") != before
    assert machine.shell("gatewayctl jobs") == jobs
    assert machine.shell(f"tail -n 1 {CONFIG}; stat -c '%a %U:%G' {CONFIG}").splitlines() == [
        "# edited",
        "644 root:gatewayd",
    ]
    return jobs.splitlines()[-1]


def its_page_shows(machine: Machine) -> str:
    """gatewayd-web is there, off until it is started."""
    assert machine.run("systemctl", "is-active", "gatewayd-web", check=False).stdout.strip() == "inactive"
    machine.run("systemctl", "start", "gatewayd-web")
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8463/').status)"
    assert machine.run("python3", "-c", code).stdout.strip() == "200"
    return "on 127.0.0.1:8463"


def it_is_uninstalled(machine: Machine) -> str:
    """`make uninstall`: nothing runs, nothing is left but configuration, keys and state."""
    machine.shell(f"{OFFLINE}; make uninstall")
    for unit in UNITS:
        assert machine.run("systemctl", "cat", unit, check=False).returncode != 0
    assert machine.run("pgrep", "-u", "gatewayd", check=False).stdout == ""
    before = set(machine.tree_path("/root/before").read_text().split("\n"))
    left = set(machine.shell(FILES).split("\n")) - before
    kept = {path for path in left if KEPT.fullmatch(path)}
    assert CONFIG in kept
    assert machine.run("test", "-e", "/var/lib/gatewayd/gatewayd.db", check=False).returncode == 0
    files = {path for path in left - kept if not machine.tree_path(path).is_dir()}
    assert files == set(), files
    return "left: " + " ".join(sorted(kept))


def status(machine: Machine) -> str:
    """What the service says of itself."""
    return machine.run("systemctl", "show", "--value", "-p", "StatusText", "gatewayd").stdout.strip()


ALL: tuple[Callable[[Machine], str], ...] = (
    it_is_laid_out_below_destdir,
    it_is_installed,
    its_unit_is_understood,
    its_manual_and_completion_are_there,
    it_updates_a_device,
    it_takes_a_credential,
    it_is_installed_again,
    its_page_shows,
    it_is_uninstalled,
)


def main() -> int:
    """Return 0 if all was shown."""
    if os.getuid() != 0:
        click.echo("gatewayd: only root can boot a system: sudo make test-install", err=True)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which clears everything away
    table = Table()
    with tempfile.TemporaryDirectory(prefix="gatewayd-install-") as folder:
        run(Path(folder), table)
    table.sum_up(len(ALL) + 2)
    return 1 if table.has_failed else 0


def run(folder: Path, table: Table) -> None:
    """Make the machine, and let the checks see it, until one fails."""
    with table.row("a clean Debian 12, this tree, and what pip is going to ask for"):
        machine = Machine(make_tree(folder))
    if table.has_failed:
        return
    try:
        with table.row("systemd boots"):
            machine.boot()
        for check in ALL:
            if table.has_failed:
                break
            with table.row(check.__doc__ or check.__name__) as row:
                row.note = check(machine)
        if table.has_failed:
            click.echo(machine.last_words(JOURNAL_LINES))
    finally:
        machine.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
