"""Checks of the daemon: whether it runs, as which user, and under which watchdog."""

import os
import re
from pathlib import Path

from gatewayd.codes import Code
from gatewayd.config import Gateway
from gatewayd.control.client import ask
from gatewayd.control.messages import StatusResult
from gatewayd.control.requests import Status
from gatewayd.doctor.account import Account
from gatewayd.doctor.finding import Finding, failure, ok, refused, warning
from gatewayd.doctor.host import ask_system
from gatewayd.doctor.in_force import examine_in_force
from gatewayd.errors import GatewaydError
from gatewayd.store.lock import LockHolder

_SUBJECT = "daemon"
_PUBLISH = "use gatewayctl publish; the next message that is stored clears this warning"
# A longer lag delays acknowledgements on a fast line.
LAG_LIMIT_MS = 100.0


def daemon_findings(config: Path, gateway: Gateway, daemon: LockHolder) -> list[Finding]:
    """Report whether the daemon runs (by its lock), whether it answers, and what it says about itself.

    `config` is the file that it should have in force.
    """
    if daemon.runs is None:
        text = f"cannot tell whether gatewayd runs: {gateway.state_dir} is not accessible to this user"
        hint = "run the doctor as root, or as the user that gatewayd runs as"
        return [warning(_SUBJECT, text, code="daemon_unknown", hint=hint)]
    if not daemon.runs:
        text = f"gatewayd is not running on {gateway.state_dir}"
        return [warning(_SUBJECT, text, code="daemon_not_running", hint="start it: `gatewayd --config …`")]
    runs = ok(_SUBJECT, "gatewayd is running" + (f" (process {daemon.pid})" if daemon.pid else ""))
    try:
        status = ask(gateway.control_socket, Status(), StatusResult)
    except GatewaydError as error:
        return [runs, refused("control socket", error)]
    in_force = examine_in_force(config, gateway.control_socket, status)
    return [runs, *judge_status(gateway, status), *in_force]


def judge_status(gateway: Gateway, status: StatusResult) -> list[Finding]:
    """Judge the daemon's own status."""
    findings = [ok("control socket", f"{gateway.control_socket} answers: gatewayd {status.version}")]
    if status.paused is not None:
        text = f"everything is paused, by {status.paused.by} since {status.paused.since}"
        findings.append(warning("updates", text, code="paused", hint="gatewayctl resume"))
    if status.trouble is not None:
        is_login = status.trouble.code == Code.LOGIN_UNUSABLE
        see = "the configuration's mistakes" if is_login else "the finding on the disk"
        hint = f"see {see} above; gatewayd continues by itself once that is fixed"
        subject = "login files" if is_login else "storage"
        findings.append(failure(subject, status.trouble.reason, code=status.trouble.code, hint=hint))
    broker = f"{status.broker.host}:{status.broker.port}"
    missing = sorted(set(status.broker.topics) - set(status.broker.subscribed))
    if status.broker.next_connection_at is not None:
        text = f"gatewayd is sleeping, and next connects to {broker} at {status.broker.next_connection_at}"
        findings.append(ok("connection", f"{text} (mqtt.connect); gatewayctl reload connects now"))
    elif not status.broker.connected:
        hint = "see the findings on the broker above, and the log"
        findings.append(
            failure("connection", f"gatewayd is not connected to {broker}", code="not_connected", hint=hint)
        )
    elif missing:
        text = f"the broker refuses gatewayd's subscriptions to {', '.join(missing)}"
        hint = "allow them in the broker's access list"
        findings.append(failure("connection", text, code="subscription_refused", hint=hint))
    else:
        findings.append(ok("connection", f"gatewayd is connected to {broker}, and subscribed"))
    findings += [
        warning(
            "messages",
            f"the last message on {one.topic} was refused: {one.reason}",
            code=one.code,
            hint=_PUBLISH,
        )
        for one in status.broker.refused_messages
    ]
    findings += [
        warning(
            "connection", one.reason, code=one.code, hint="gatewayd goes on without it, and tries again later"
        )
        for one in status.broker.left_out
    ]
    lag = status.loop_lag
    if lag.p99_9_ms > LAG_LIMIT_MS:
        text = f"gatewayd is late: {lag.p99_9_ms:.0f} ms at p99.9, {lag.max_ms:.0f} ms at most"
        hint = "check whether the machine is overloaded or swapping"
        findings.append(warning("event loop", text, code="loop_late", hint=hint))
    else:
        findings.append(ok("event loop", f"at most {lag.max_ms:.0f} ms late in the last minutes"))
    return findings


def find_account(gateway: Gateway, daemon: LockHolder) -> tuple[Account, str]:
    """Return the account to check permissions for, and why this one."""
    if daemon.pid is not None:
        try:
            return Account.of_process(daemon.pid), "the user gatewayd runs as"
        except OSError:  # it ended meanwhile
            pass
    try:
        return Account.of_user(gateway.state_dir.stat().st_uid), f"the owner of {gateway.state_dir}"
    except OSError:
        return Account.of_process(os.getpid()), "the user running the doctor"


def examine_watchdog(daemon: LockHolder) -> Finding:
    """Check whether systemd watches the daemon, from its environment or from its unit."""
    if (usec := environment(daemon.pid).get("WATCHDOG_USEC")) is not None:
        return judge_watchdog(f"{int(usec) / 1e6:g}s" if usec.isdecimal() else usec)
    return judge_watchdog(
        ask_system("systemctl", "show", "gatewayd.service", "-p", "WatchdogUSec", "--value")
    )


def judge_watchdog(interval: str | None) -> Finding:
    """Judge the interval as systemd gives it; None if there is no systemd."""
    if not interval or re.fullmatch(r"0s?|infinity|\[not set\]", interval):
        text = "none: if gatewayd hangs, nothing restarts it"
        hint = "the packaged service has one; in your own unit, set Type=notify and WatchdogSec=60"
        return warning("watchdog", text, code="no_watchdog", hint=hint)
    return ok("watchdog", f"systemd restarts gatewayd if it does not report for {interval}")


def environment(pid: int | None) -> dict[str, str]:
    """Return a process's environment at its start; empty if it is not readable."""
    try:
        content = (Path("/proc") / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in content.decode(errors="replace").split("\0"))
    return {key: value for key, _, value in pairs}
