"""`gatewayd-notify` on a running system: off, then without its program, then telling."""

from suites.system.machine import until
from suites.system.scene import Scene, exposure

UNIT = "gatewayd-notify"
PROGRAM = "/etc/gatewayd/notify"
CONFIG = "/etc/gatewayd/config.yaml"
SCORE_LIMIT = 1.5
TOLD = "/var/lib/private/gatewayd-notify/told-by-test"
# It writes where the service may, and reads a credential as the mail of docs/notify.md does.
TELL = """
    #!/bin/sh
    word=$(cat "$CREDENTIALS_DIRECTORY/gatewayd-notify.word")
    echo "$GATEWAYD_EVENT $GATEWAYD_CODE $word" >>"$STATE_DIRECTORY/told-by-test"
"""


def messages_are_off_and_then_told(scene: Scene) -> str:
    """The messages are off, do not start without their program, and tell of a refused configuration."""
    machine = scene.machine
    asked = [machine.run("systemctl", ask, UNIT, check=False) for ask in ("is-enabled", "is-active")]
    assert [one.stdout.strip() for one in asked] == ["disabled", "inactive"]
    machine.run("systemctl", "start", UNIT, check=False)
    until(lambda: _property(scene, "ExecMainStatus") == "78", "it ends without its program")
    assert _property(scene, "NRestarts") == "0", "only a person can mend that"

    scene.put(PROGRAM, TELL, 0o755)
    scene.put("/etc/credstore/gatewayd-notify.word", "sesame", 0o600)
    machine.shell(f"cp -p {CONFIG} /root/good.yaml; echo 'nonsense: 1' >>{CONFIG}")
    machine.run("systemctl", "reload", "gatewayd", check=False)
    machine.run("systemctl", "start", UNIT)
    told = machine.tree_path(TOLD)
    until(told.exists, "it tells")
    machine.shell(f"cp -p /root/good.yaml {CONFIG}; systemctl reload gatewayd; systemctl stop {UNIT}")
    assert told.read_text() == "trouble bad_configuration sesame\n", told.read_text()
    score = exposure(scene, UNIT)
    assert score <= SCORE_LIMIT
    machine.run("rm", PROGRAM)
    return f"off at first; security {score}, {SCORE_LIMIT} at most"


def _property(scene: Scene, name: str) -> str:
    return scene.machine.run("systemctl", "show", "-P", name, UNIT).stdout.strip()
