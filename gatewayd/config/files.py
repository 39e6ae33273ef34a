"""Read the keys, passwords and certificates that a configuration names. No message shows their content."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from gatewayd.config.document import Document
from gatewayd.config.mistakes import KeyPath
from gatewayd.config.model import UNIT_CREDENTIALS, KeyFiles, MqttSection, TlsSection
from gatewayd.errors import ConfigError
from gatewayd.ota.keys import KeySet, parse_ota_key, parse_raw_key
from gatewayd.tls import TlsError, Trust, make_context

T = TypeVar("T")

# Far more than any key or password, or any bundle of certificates; a wrong path must not cost memory.
_SIZE_LIMIT_BYTES = 4096
_PEM_LIMIT_BYTES = 4 * 1024 * 1024
# An MQTT password has a length field of 16 bits, but nobody types more than a line.
_PASSWORD_LIMIT_BYTES = 1024
# What ProtectHome= in the unit hides.
HIDDEN_FOLDERS = ("/home", "/root", "/run/user")


def read_key_set(files: KeyFiles, document: Document, path: KeyPath) -> KeySet | None:
    """Load a key set; or note what is wrong with its files and return None."""
    shared = files.allow_shared_key
    if files.ota_key_file:
        if files.decrypt_key_file or files.verify_key_file:
            message = "is given together with decrypt_key_file or verify_key_file"
            document.wrong(
                (*path, "ota_key_file"), message, "Delete it: the other two are all that a gateway needs"
            )
            return None
        ota_key = _read(document, (*path, "ota_key_file"), files.ota_key_file, parse_ota_key, is_secret=True)
        return ota_key.key_set(allow_shared_key=shared) if ota_key else None
    if not (files.decrypt_key_file or files.verify_key_file):
        document.wrong(path, "names no key file", "Give decrypt_key_file, verify_key_file or both")
        return None
    before = len(document.mistakes)
    decrypt_key = _raw_key(document, (*path, "decrypt_key_file"), files.decrypt_key_file, is_secret=True)
    verify_key = _raw_key(document, (*path, "verify_key_file"), files.verify_key_file, is_secret=False)
    has_all = (decrypt_key is None) == (files.decrypt_key_file is None) and (
        (verify_key is None) == (files.verify_key_file is None)
    )
    return KeySet(decrypt_key, verify_key, shared) if has_all and len(document.mistakes) == before else None


def read_password(mqtt: MqttSection, document: Document) -> SecretStr | None:
    """Load the broker's password; None if there is none, or if its file is wrong (which is noted)."""
    if mqtt.password_file is None:
        return None
    where = ("mqtt", "password_file")
    if mqtt.username is None:
        document.wrong(where, "is given without a username", "Give mqtt.username as well")
    return _read(document, where, mqtt.password_file, parse_password, is_secret=True)


def read_tls(tls: TlsSection, document: Document) -> tuple[SecretStr | None, str]:
    """Load the files for TLS; return the key's password and a digest of all files.

    Notes what is wrong with the files, each by itself and all together.
    """
    before, where = len(document.mistakes), ("mqtt", "tls")
    contents = [
        _read(document, (*where, name), file, bytes, is_secret=is_secret)
        for name, file, is_secret in (
            ("ca_file", tls.ca_file, False),
            ("cert_file", tls.cert_file, tls.key_file is None),
            ("key_file", tls.key_file, True),
        )
        if file is not None
    ]
    password = None
    if tls.key_password_file is not None:
        path = (*where, "key_password_file")
        password = _read(document, path, tls.key_password_file, parse_password, is_secret=True)
    has_all = None not in contents and (password is not None or tls.key_password_file is None)
    for key in ("key_file", "key_password_file"):
        if getattr(tls, key) is not None and tls.cert_file is None:
            document.wrong((*where, key), "is given without cert_file", "Give mqtt.tls.cert_file as well")
    if has_all and len(document.mistakes) == before:
        try:
            secret = password.get_secret_value() if password else None
            make_context(Trust(tls.ca_file, tls.cert_file, tls.key_file, secret, tls.pins))
        except TlsError as error:
            document.wrong_file(where, error.message, error.hint)
    return password, hashlib.sha256(b"\0".join(content or b"" for content in contents)).hexdigest()


def _raw_key(document: Document, path: KeyPath, file: Path | None, *, is_secret: bool) -> bytes | None:
    if file is None:
        return None
    return _read(document, path, file, lambda content: parse_raw_key(content, "the key"), is_secret=is_secret)


def parse_password(content: bytes) -> SecretStr:
    """Read the content of a password file. Raises ConfigError."""
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError("expected a password in UTF-8", hint="save the file as UTF-8") from None
    if not text or not text.isprintable() or len(text) > _PASSWORD_LIMIT_BYTES:
        raise ConfigError("expected a single line that holds only the password")
    return SecretStr(text)


def secret_advice(file: Path, user: str = "gatewayd") -> str:
    """Say who may read a file with a secret: nobody but the user that gatewayd runs as."""
    return f"Run: chown {user} {file} && chmod 600 {file}"


def _way_out(file: Path, error: OSError, *, is_secret: bool) -> str:
    """Say what to do about a file that cannot be read."""
    if str(file).startswith(os.environ.get("CREDENTIALS_DIRECTORY", UNIT_CREDENTIALS)):
        return (
            f"Put it into /etc/credstore, or add LoadCredential={file.name}:… to the unit;"
            " systemd passes it on at the next `systemctl restart gatewayd`"
        )
    if any(file.absolute().is_relative_to(folder) for folder in HIDDEN_FOLDERS):
        return f"Move it to /etc/gatewayd: the service sees nothing below {', '.join(HIDDEN_FOLDERS)}"
    if is_secret and isinstance(error, PermissionError):
        return f"Check the path. {secret_advice(file)}"
    return "Check the path and its permissions"


def _read(
    document: Document, path: KeyPath, file: Path, parse: Callable[[bytes], T], *, is_secret: bool
) -> T | None:
    """Return the file's content, parsed; or note why it cannot be read and return None."""
    try:
        # Non-blocking: a named pipe in place of a file must not stop the daemon.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
            mode = os.fstat(descriptor).st_mode
            content = (
                stream.read(_PEM_LIMIT_BYTES if parse is bytes else _SIZE_LIMIT_BYTES)
                if stat.S_ISREG(mode)
                else b""
            )
    except OSError as error:
        suggestion = _way_out(file, error, is_secret=is_secret)
        if document.host.is_here:
            document.wrong_file(path, f"{file} cannot be read: {error.strerror}", suggestion)
        else:
            message = f"{file} was not checked: {error.strerror}"
            document.warnings.append(
                document.mistake(path, message, f"It must exist on {document.host.name}")
            )
        return None
    if not stat.S_ISREG(mode):
        document.wrong_file(path, f"{file} is not a regular file")
        return None
    if is_secret and mode & stat.S_IROTH:
        document.wrong_file(
            path, f"{file} is readable by everybody (mode {mode & 0o777:04o})", secret_advice(file)
        )
    if mode & stat.S_IWOTH:
        document.wrong_file(
            path,
            f"{file} is writable by everybody (mode {mode & 0o777:04o})",
            secret_advice(file) if is_secret else f"Run: chmod o-w {file}",
        )
    try:
        return parse(content)
    except ConfigError as error:
        document.wrong_file(path, f"{file}: {error.message}", error.hint)
        return None
