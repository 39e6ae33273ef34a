"""Checks of key and password files: the daemon can read them, and nobody else can replace them.

Loading the configuration already checks their content, and that secrets are not readable by everybody; a file
that fails there is reported among the configuration's mistakes.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gatewayd.config import Gateway, Settings
from gatewayd.config.files import HIDDEN_FOLDERS, secret_advice
from gatewayd.doctor.account import READ, Account, owner_name
from gatewayd.doctor.finding import Finding, failure, ok, warning
from gatewayd.doctor.host import ask_system
from gatewayd.store.lock import LockHolder

SERVICE = "gatewayd.service"


def hidden_from_service(gateway: Gateway, daemon: LockHolder) -> tuple[Path, ...]:
    """Return the folders in which the packaged service will see nothing of what is there.

    A daemon that runs is asked instead: see `doctor.in_force`.
    """
    if daemon.runs or gateway.state_dir != Gateway.model_fields["state_dir"].default:
        return ()
    answer = ask_system("systemctl", "show", SERVICE, "-p", "ProtectHome", "-p", "PrivateTmp") or ""
    return hidden_folders(dict(line.split("=", 1) for line in answer.splitlines() if "=" in line))


def hidden_folders(unit: Mapping[str, str]) -> tuple[Path, ...]:
    """Return what a unit with these properties hides."""
    home = HIDDEN_FOLDERS if unit.get("ProtectHome") in {"yes", "tmpfs"} else ()
    temporary = ("/tmp", "/var/tmp") if unit.get("PrivateTmp", "no") != "no" else ()  # noqa: S108 - not used
    return tuple(map(Path, (*home, *temporary)))


def examine_keys(settings: Settings, account: Account, hidden: Sequence[Path] = ()) -> Iterator[Finding]:
    """Check every file that the configuration names; the service sees nothing below `hidden` folders."""
    for subject, path in _files(settings):
        if any(path.absolute().is_relative_to(folder) for folder in hidden):
            text = f"{path} is there, but {SERVICE} cannot see it: its sandbox hides that folder"
            yield failure(subject, text, code="file_unreadable", hint="move it to /etc/gatewayd")
            continue
        try:
            status = path.stat()
            obstacle = account.obstacle(path, READ)
        except OSError as error:
            text = f"{path} cannot be read: {error.strerror}"
            yield failure(subject, text, code="file_unreadable", hint="it existed a moment ago: try again")
        else:
            yield judge_file(subject, path, status, path.parent.stat(), account, obstacle)


def judge_file(
    subject: str, path: Path, status: os.stat_result, folder: os.stat_result, account: Account, obstacle: str
) -> Finding:
    """Judge who may read and who may replace a file."""
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    owner = owner_name(status.st_uid)
    if obstacle:
        hint = f"{secret_advice(path, account.name)}; a public key or certificate may have mode 644"
        return failure(
            subject, f"{obstacle}; {path} is owned by {owner}, mode {mode}", code="file_unreadable", hint=hint
        )
    others = f"{path} is owned by {owner}, who can read and replace it"
    if status.st_uid not in (0, account.uid):
        return warning(subject, others, code="file_exposed", hint=secret_advice(path, account.name))
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        text = f"everybody can replace {path}: its folder is writable by all"
        return warning(subject, text, code="file_exposed", hint=f"`chmod o-w {path.parent}`")
    if folder.st_uid not in (0, account.uid):
        text = f"{owner_name(folder.st_uid)}, who owns its folder, can replace {path}"
        return warning(subject, text, code="file_exposed", hint=f"`chown root {path.parent}`")
    return ok(subject, f"{path}: {status.st_size} bytes, mode {mode}, owned by {owner}")


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    if settings.mqtt.password_file is not None:
        yield "password", settings.mqtt.password_file
    if (tls := settings.mqtt.tls) is not None:
        for path in (tls.ca_file, tls.cert_file, tls.key_file, tls.key_password_file):
            if path is not None:
                yield "TLS file", path
    for name, files in settings.key_files.items():
        for path in (files.decrypt_key_file, files.verify_key_file, files.ota_key_file):
            if path is not None:
                yield f"key {name}", path
