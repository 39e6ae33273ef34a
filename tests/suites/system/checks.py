"""What is shown on a running system, in the order of a gateway's life; a check returns what it saw."""

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from gatewayd.cli.web import CREDENTIAL
from suites.system.machine import until
from suites.system.messages import messages_are_off_and_then_told
from suites.system.scene import DROP_IN, IMAGE_BYTES, OUTLASTS_APT_BYTES, Scene, exposure
from suites.system.tree import LAB, LAB_PACKAGES

SCORE_LIMIT = 1.5
CONFIG = "/etc/gatewayd/config.yaml"
EXAMPLES = "/usr/share/doc/gatewayd/examples"
PROBE = Path(__file__).with_name("probe.py")
# In gatewayd's unit, run something else, once.
RUN_PROBE = """
    [Service]
    Type=oneshot
    ExecStart=
    ExecStart=/usr/bin/python3 /usr/local/bin/probe.py {port}
    Restart=no
"""
HUNGRY = "[Service]\nWatchdogSec=5s\n"
# A defect that holds the event loop up for ever.
HANGS = """
    import time
    import gatewayd.systemd.status_line as told
    line, lines = told.status_line, []
    def a_line_that_never_comes(*words, **more):
        lines.append(0)
        if len(lines) > 3:
            time.sleep(3600)
        return line(*words, **more)
    told.status_line = a_line_that_never_comes
"""

# As the page does it: print the first event, or what a command for pump-1 is answered.
LOOK = """
    import base64, sys, urllib.request
    here = "http://127.0.0.1:8463"
    headers = {"Origin": here, "X-Gatewayd": "page"}
    if sys.argv[2:]:
        headers["Authorization"] = "Basic " + base64.b64encode(sys.argv[2].encode()).decode()
    body = None if sys.argv[1] == "events" else b'{"targets": ["pump-1"]}'
    request = urllib.request.Request(f"{here}/{sys.argv[1]}", body, headers)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    if body is None:
        line = b""
        while b'"devices":[{' not in line:
            line = answer.readline()
        print(line.removeprefix(b"data: ").decode())
    else:
        print(answer.read().decode())
"""

Check = Callable[[Scene], str]


def it_is_installed(scene: Scene) -> str:
    """`apt install` of the previous version: it runs, is ready, and has nothing to do."""
    scene.machine.run("apt-get", "install", "-q", *LAB_PACKAGES)
    apt_install(scene, "previous")
    assert scene.property("ActiveState") == "active"
    assert scene.machine.run("systemctl", "is-enabled", "gatewayd").stdout.strip() == "enabled"
    assert scene.property("StatusText") == "no devices configured"
    return scene.property("StatusText")


def the_readme_leads_to_an_update(scene: Scene) -> str:
    """README.md, typed as it stands there: from `apt install` to a device that runs what was published."""
    scene.start_device()
    roms = [random.Random(number).randbytes(IMAGE_BYTES) for number in (0, 1)]
    for number, rom in enumerate(roms):
        scene.machine.tree_path(f"/{LAB}/previous/rom{number}.bin").write_bytes(rom)
    typed = scene.readme.install + scene.readme.publish
    scene.machine.shell(f"cd /{LAB}/previous\n{typed}", limit_s=600)
    scene.image = roms[0]
    scene.await_updated("4.3.2")
    return f"{len(typed.splitlines())} lines typed"


def it_is_hardened(scene: Scene) -> str:
    """`systemd-analyze security`."""
    score = exposure(scene, "gatewayd")
    assert score <= SCORE_LIMIT
    return f"{score}, {SCORE_LIMIT} at most"


def its_examples_are_understood(scene: Scene) -> str:
    """`systemd-analyze verify` with each drop-in example; manual pages are lintian's business."""
    names = scene.machine.run("ls", EXAMPLES).stdout.split()
    for name in names:
        scene.put(DROP_IN, scene.machine.tree_path(f"{EXAMPLES}/{name}").read_text())
        said = scene.machine.run("systemd-analyze", "verify", "--man=no", "gatewayd.service")
        assert said.stdout + said.stderr == "", name
    scene.machine.run("rm", DROP_IN)
    assert len(names) == 4, names
    return ", ".join(names)


def it_takes_credentials(scene: Scene) -> str:
    """Keys and passwords from systemd, one of them encrypted; the files are root's alone."""
    scene.machine.shell(f"""
        cd /{LAB}
        cp previous/ota.key previous/*.key.bin .
        install -D -m 600 client.pem /etc/credstore/gatewayd.client.pem
        install -D -m 600 decrypt.key.bin /etc/credstore/gatewayd.decrypt.key.bin
        install -m 644 verify.key.bin /etc/gatewayd/verify.key.bin
        mkdir -p -m 700 /etc/credstore.encrypted
        systemd-creds encrypt --with-key=host client.key /etc/credstore.encrypted/gatewayd.client.key
    """)
    scene.secure_broker()
    scene.configure()
    scene.machine.run("systemctl", "restart", "gatewayd")
    until(
        lambda: scene.property("StatusText").endswith("broker connected"),
        "gatewayd logs in by its certificate",
    )
    listed = scene.machine.run("ls", "/run/credentials/gatewayd.service").stdout.split()
    assert listed == ["gatewayd.client.key", "gatewayd.client.pem", "gatewayd.decrypt.key.bin"]
    stranger = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    refused = scene.machine.run(*stranger, "ls", "/run/credentials/gatewayd.service", check=False)
    assert refused.returncode != 0
    return scene.property("StatusText")


def it_updates_over_tls(scene: Scene) -> str:
    """From mosquitto, with pin and client certificate, to the C receiver; the status shows it."""
    version = scene.begin_update()
    until(lambda: "1 updating (pump-1 " in scene.property("StatusText"), "the status shows the transfer")
    shown = scene.property("StatusText")
    scene.await_updated(version)
    return shown


def its_log_has_fields(scene: Scene) -> str:
    """`journalctl DEVICE=pump-1`, whole lines in MESSAGE, priorities, and nothing as plain text."""
    entries = scene.entries("DEVICE=pump-1")
    assert {entry["MESSAGE"].split()[0] for entry in entries} >= {
        "transfer",
        "staged",
        "activated",
        "succeeded",
    }
    assert {entry["_TRANSPORT"] for entry in entries} == {"journal"}
    assert {entry["SYSLOG_IDENTIFIER"] for entry in entries} == {"gatewayd"}
    assert all("JOB" in entry for entry in entries if entry["MESSAGE"].startswith("staged"))
    plain = [entry["MESSAGE"] for entry in scene.entries("_TRANSPORT=stdout", "SYSLOG_IDENTIFIER=gatewayd")]
    assert plain == [], "lines that went around the journal's fields"
    short = scene.machine.run("journalctl", "-u", "gatewayd", "DEVICE=pump-1", "-o", "cat").stdout
    assert "device=pump-1" in short
    return f"{len(entries)} entries"


def it_reloads(scene: Scene) -> str:
    """`systemctl reload` with a good and a bad file: the old configuration stays, the status says why."""
    scene.configure(
        more="""
  - name: tank-1
    app_id: tank
    version: "1.0.0"
    payload: standard
    link: {uart: /run/tank-1}
"""
    )
    scene.machine.run("systemctl", "reload", "gatewayd")
    assert scene.property("StatusText").startswith("2 devices"), scene.property("StatusText")
    scene.configure(more="wrong: 1\n")
    assert scene.machine.run("systemctl", "reload", "gatewayd", check=False).returncode != 0
    status = scene.property("StatusText")
    assert scene.property("ActiveState") == "active"
    assert status.startswith(f"the new configuration is refused, the old one is in force: {CONFIG}:"), status
    assert "2 devices" in status, "the old one is in force"
    scene.configure()
    scene.machine.run("systemctl", "reload", "gatewayd")
    assert scene.property("StatusText").startswith("1 device, "), scene.property("StatusText")
    return status


def it_does_not_start_with_a_bad_configuration(scene: Scene) -> str:
    """Exit 78, once, with the mistake in the status and the journal."""
    scene.configure(more="wrong: 1\n")
    since = scene.now()
    assert scene.machine.run("systemctl", "restart", "gatewayd", check=False).returncode != 0
    assert scene.property("ExecMainStatus") == "78"
    assert scene.property("ActiveState") == "failed", "it is not tried again"
    said = [one for one in scene.entries("--after-cursor", since) if one.get("CODE") == "bad_configuration"]
    assert len(said) == 1
    assert said[0]["MESSAGE"].startswith(f"{CONFIG}:")
    assert said[0]["PRIORITY"] == "3"
    assert scene.property("StatusText").startswith(f"{CONFIG}:")
    scene.configure()
    scene.machine.run("systemctl", "restart", "gatewayd")
    return str(said[0]["MESSAGE"])


def it_waits_for_the_disk(scene: Scene) -> str:
    """A full disk at the start: not ready, the status says why; it goes on by itself when there is room."""
    machine = scene.machine
    machine.shell("""
        systemctl stop gatewayd
        mount -t tmpfs -o size=3m,mode=700,uid=$(id -u gatewayd),gid=$(id -g gatewayd) none /var/lib/gatewayd
        dd if=/dev/zero of=/var/lib/gatewayd/fill bs=64k status=none || true
        systemctl start --no-block gatewayd
    """)
    until(lambda: scene.property("StatusText").startswith("waiting for the disk: "), "the status says so")
    told = scene.property("StatusText")
    assert told.endswith("(disk_full)"), told
    assert scene.property("ActiveState") == "activating"
    machine.run("rm", "/var/lib/gatewayd/fill")
    until(lambda: scene.property("ActiveState") == "active", "it goes on")
    machine.shell("systemctl stop gatewayd; umount /var/lib/gatewayd; systemctl start gatewayd")
    return told


def it_is_shut_in(scene: Scene) -> str:
    """The sandbox, tried from within: what it needs it may, and nothing else."""
    machine = scene.machine
    scene.put("/usr/local/bin/probe.py", PROBE.read_text())
    machine.shell("touch /tmp/of-another; mkdir -p /home/pi; touch /home/pi/file")
    machine.shell("mknod -m 666 /dev/everybodys c 1 11")
    since = scene.now()
    scene.drop_in(RUN_PROBE.format(port=scene.readme.port))
    (said,) = [
        one["MESSAGE"] for one in scene.entries("--after-cursor", since) if one["MESSAGE"].startswith("{")
    ]
    scene.drop_in("")
    found = json.loads(said)
    assert any(len(entry["MESSAGE"]) == 10**6 for entry in scene.entries("--after-cursor", since))
    assert {name: why for name, why in found["allowed"].items() if why} == {}, "needed, and refused"
    assert [name for name, why in found["denied"].items() if not why] == [], "possible, and should not be"
    # What root cannot do either on this machine, the sandbox has not shown anything about.
    free = json.loads(machine.run("python3", "/usr/local/bin/probe.py", scene.readme.port).stdout)["denied"]
    unknown = [name for name, why in free.items() if why]
    shown = len(free) - len(unknown)
    assert shown > 20, unknown
    return f"{shown} things refused, {len(found['allowed'])} possible; not to be shown here: {unknown}"


def a_stranger_may_not_steer(scene: Scene) -> str:
    """Who is in the group gatewayd uses gatewayctl, and the journal knows who; others do not."""
    scene.machine.shell("useradd --groups gatewayd anna; useradd berta")
    assert "pump-1" in scene.ctl_as("anna", "devices").stdout
    assert scene.ctl_as("anna", "pause", "pump-1").returncode == 0
    assert any(entry.get("USER") == "anna" for entry in scene.entries())
    scene.machine.run("gatewayctl", "resume", "pump-1")
    refused = scene.ctl_as("berta", "devices")
    assert refused.returncode == 75, refused
    return refused.stderr.strip()


def it_stops_in_mid_transfer(scene: Scene) -> str:
    """SIGTERM in mid-transfer; the next start resumes."""
    version, since = scene.begin_update(), scene.now()
    took_s = scene.timed("systemctl", "stop", "gatewayd")
    assert scene.property("Result") == "success", "systemd did not have to kill it"
    scene.machine.run("systemctl", "start", "gatewayd")
    offset = scene.await_resumed(version, since)
    return f"{took_s:.1f} s; resumed at {offset}"


def the_watchdog_restarts_it(scene: Scene) -> str:
    """SIGSTOP in mid-transfer; systemd notices, restarts it, and the update resumes."""
    scene.drop_in(HUNGRY)
    version, since = scene.begin_update(), scene.now()
    begun = time.monotonic()
    pid = scene.property("MainPID")
    scene.machine.run("systemctl", "kill", "--signal=STOP", "gatewayd")
    until(lambda: scene.property("MainPID") not in (pid, "0"), "systemd starts another")
    took_s = time.monotonic() - begun
    assert scene.property("NRestarts") == "1"
    offset = scene.await_resumed(version, since)
    scene.drop_in("")
    return f"restarted after {took_s:.1f} s; resumed at {offset}"


def what_hung_leaves_its_stack(scene: Scene) -> str:
    """A loop that a defect blocks: SIGABRT, and the journal has the line where it stood."""
    since = scene.now()
    scene.put("/usr/local/lib/hangs/sitecustomize.py", HANGS)
    scene.drop_in(f"{HUNGRY}Environment=PYTHONPATH=/usr/local/lib/hangs\n")
    until(lambda: scene.property("NRestarts") != "0", "the watchdog bites")
    scene.drop_in("")
    said = "\n".join(str(entry["MESSAGE"]) for entry in scene.entries("--after-cursor", since))
    assert "Fatal Python error: Aborted" in said, said
    (line,) = {line.strip() for line in said.splitlines() if "a_line_that_never_comes" in line}
    assert "watchdog timeout" in said.lower(), said
    return str(line)


def it_is_upgraded_in_mid_transfer(scene: Scene) -> str:
    """`apt install` of the new version: the transfer goes on, an edited configuration is kept."""
    version, since = scene.begin_update(OUTLASTS_APT_BYTES), scene.now()
    before, jobs = scene.machine.tree_path(CONFIG).read_text(), scene.jobs()
    apt_install(scene, "new")
    assert scene.machine.tree_path(CONFIG).read_text() == before
    assert scene.machine.shell("stat -c '%U:%G %a' /etc/gatewayd/config.yaml") == "root:gatewayd 640"
    installed = scene.machine.shell("dpkg-query -W -f '${Version}' gatewayd")
    assert installed != "0.0.1"
    offset = scene.await_resumed(version, since)
    it_has_lost_nothing(scene, jobs, since)
    return f"0.0.1 to {installed}; resumed at {offset}"


def it_goes_back_in_mid_transfer(scene: Scene) -> str:
    """`apt install --allow-downgrades` of the version before, and of the new one again: nothing is lost."""
    version, since = scene.begin_update(OUTLASTS_APT_BYTES), scene.now()
    jobs = scene.jobs()
    apt_install(scene, "previous", "--allow-downgrades")
    assert scene.machine.shell("dpkg-query -W -f '${Version}' gatewayd") == "0.0.1"
    offset = scene.await_resumed(version, since)
    apt_install(scene, "new")
    until(lambda: scene.device().get("installed_version") == version, "gatewayd answers again")
    it_has_lost_nothing(scene, jobs, since)
    return f"back to 0.0.1; resumed at {offset}"


def it_has_lost_nothing(scene: Scene, jobs: dict[int, str], since: str) -> None:
    """The history is still there, and nothing that was stored is called damaged or unreadable."""
    assert jobs, "there is a history"
    assert jobs.items() <= scene.jobs().items()
    assert not scene.machine.tree_path("/var/lib/gatewayd/quarantine").exists()
    codes = {entry.get("CODE") for entry in scene.entries("--after-cursor", since)}
    assert not codes & {"stored_unreadable", "database_damaged", "newer_database"}


def the_page_is_off_and_then_shows(scene: Scene) -> str:
    """Its package starts nothing; once started it may use the control socket alone, and shows."""
    machine = scene.machine
    apt_install(scene, "page")
    asked = [
        machine.run("systemctl", ask, "gatewayd-web", check=False) for ask in ("is-enabled", "is-active")
    ]
    states = [one.stdout.strip() for one in asked]
    assert states == ["disabled", "inactive"]
    machine.run("systemctl", "start", "gatewayd-web")
    scene.put("/usr/local/bin/look.py", LOOK)
    said = json.loads(machine.run("python3", "/usr/local/bin/look.py", "events").stdout)
    assert [device["name"] for device in said["devices"]] == ["pump-1"], said
    refused = machine.run("python3", "/usr/local/bin/look.py", "commands/pause").stdout
    assert "only_shows" in refused, refused
    score = exposure(scene, "gatewayd-web")
    assert score <= SCORE_LIMIT
    return f"off at first; security {score}, {SCORE_LIMIT} at most"


def who_signs_in_on_the_page_steers(scene: Scene) -> str:
    """A password file among the credentials; the daemon records the person and the kernel's user."""
    machine, since = scene.machine, scene.now()
    machine.shell(f"""
        printf 'correct horse\\n' | gatewayctl web-password /etc/credstore/{CREDENTIAL} alice
        systemctl restart gatewayd-web
    """)
    refused = machine.run("python3", "/usr/local/bin/look.py", "commands/pause").stdout
    assert "sign_in" in refused, refused
    done = machine.run("python3", "/usr/local/bin/look.py", "commands/pause", "alice:correct horse").stdout
    assert "outcomes" in done, done
    by = [
        one.get("BY") for one in scene.entries("--after-cursor", since) if one["MESSAGE"].startswith("paused")
    ]
    # A dynamic user has a name where libnss-systemd is installed, and a number otherwise.
    assert len(by) == 1, by
    assert re.fullmatch(r"alice via (gatewayd-web|uid \d+)", str(by[0])), by
    machine.run("gatewayctl", "resume", "pump-1")
    return str(by[0])


def it_is_removed(scene: Scene) -> str:
    """`apt remove`: nothing runs, configuration and state stay."""
    scene.machine.run("apt-get", "remove", "-y", "-q", "gatewayd")
    assert scene.property("ActiveState") == "inactive"
    kept = [scene.machine.tree_path(path).exists() for path in (CONFIG, "/var/lib/gatewayd/gatewayd.db")]
    assert kept == [True, True]
    assert not scene.machine.tree_path("/run/gatewayd").exists()
    return ""


def it_is_purged(scene: Scene) -> str:
    """`apt purge`: configuration and state are gone."""
    scene.machine.run("apt-get", "purge", "-y", "-q", "gatewayd")
    assert not scene.machine.tree_path("/var/lib/gatewayd").exists()
    assert not scene.machine.tree_path(CONFIG).exists()
    left = scene.machine.shell("find /etc /usr/bin /usr/lib /usr/share /var/lib -name '*gatewayd*'")
    return "what is left: " + left.replace("\n", " ")


def apt_install(scene: Scene, place: str, *words: str) -> None:
    """Let apt install the package that lies in a folder of the lab; edited configurations stay."""
    options = " ".join(("-q", "-o Dpkg::Options::=--force-confold", *words))
    scene.machine.shell(f"apt-get install {options} /{LAB}/{place}/*.deb", limit_s=600)


ALL: tuple[Check, ...] = (
    it_is_installed,
    the_readme_leads_to_an_update,
    it_is_hardened,
    its_examples_are_understood,
    it_takes_credentials,
    it_updates_over_tls,
    its_log_has_fields,
    it_reloads,
    it_does_not_start_with_a_bad_configuration,
    it_waits_for_the_disk,
    it_is_shut_in,
    a_stranger_may_not_steer,
    it_stops_in_mid_transfer,
    the_watchdog_restarts_it,
    what_hung_leaves_its_stack,
    it_is_upgraded_in_mid_transfer,
    it_goes_back_in_mid_transfer,
    the_page_is_off_and_then_shows,
    who_signs_in_on_the_page_steers,
    messages_are_off_and_then_told,
    it_is_removed,
    it_is_purged,
)
