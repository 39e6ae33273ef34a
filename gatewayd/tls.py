"""TLS to the broker: one context, pins, and what a failed handshake means.

Whom to trust, by what is given:

    pins       CA file     the broker is the right one when
    -          -           the system's certificate authorities vouch for it, under the name we asked for
    -          given       those of the file vouch for it, under the name we asked for
    given      -           it has a key that is pinned; name and dates in its certificate say nothing
    given      given       both

A pin is the SHA-256 of a public key (SubjectPublicKeyInfo in DER), which survives a renewed certificate. It
is compared inside `do_handshake`, so that not a byte can be sent to a broker with a different key.
"""

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gatewayd.errors import ConfigError, HostError

ALGORITHM = "sha256:"
_NO_TLS_HINT = "is mqtt.port the one with TLS?"
PIN_HINT = "`gatewayctl pin HOST:PORT` prints what to write"
_SHA256_DIGITS, _SHA1_DIGITS, _SHA256_BYTES = 64, 40, 32

# OpenSSL's X509_V_ERR_…
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_NOBODY_VOUCHES = {2, 18, 19, 20, 21}
# What a broker says of our certificate, in OpenSSL's words; TLS 1.3 says so only after the handshake.
_CLIENT_REFUSED = re.compile(
    r"ALERT_(BAD_CERTIFICATE|CERTIFICATE_\w+|UNSUPPORTED_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)"
    r"|HANDSHAKE_FAILURE"
)
_NO_COMMON_VERSION = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}
_NOT_TLS = {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}


class TlsError(HostError):
    """The handshake with the broker failed, or what it needs cannot be loaded."""

    default_code = "tls_failed"


class _WrongPin(ssl.SSLError):
    """The broker has another key."""

    def __init__(self, pin: str) -> None:
        super().__init__(pin)
        self.pin = pin


@dataclass(frozen=True, slots=True)
class Trust:
    """What a connection is made with; see the module's text. `key_password` opens `key_file`."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = None
    pins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Trust(ca_file={self.ca_file}, cert_file={self.cert_file}, pins={self.pins})"


class _PinnedSocket(ssl.SSLSocket):
    """A socket whose handshake fails unless the other side has a pinned key."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, then look at the key. Raises ssl.SSLError, and is closed then: paho would leave it."""
        try:
            super().do_handshake(block)
            self._compare(getattr(self.context, "pins", ()))
        except BaseException:
            self.close()
            raise

    def _compare(self, pins: Collection[str]) -> None:
        if pins and (pin := pin_of(self.getpeercert(binary_form=True) or b"")) not in pins:
            raise _WrongPin(pin)


class _Context(ssl.SSLContext):
    pins: tuple[str, ...] = ()
    sslsocket_class = _PinnedSocket


def make_context(trust: Trust) -> ssl.SSLContext:
    """Return the context for a client. Raises TlsError `tls_files` for files that cannot be used."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.pins = trust.pins
    if trust.pins and trust.ca_file is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if trust.ca_file is not None:
            context.load_verify_locations(trust.ca_file)
        elif not trust.pins:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except OSError as error:
        why = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise TlsError(f"{trust.ca_file}: {why}", code="tls_files") from None
    _load_own(context, trust)
    return context


def curious_context() -> ssl.SSLContext:
    """Return a context that trusts everybody: to look at a certificate, and to say nothing after that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def parse_pin(text: str) -> str:
    """Return a pin as `sha256:` and 64 lower-case digits. Raises ConfigError for anything else.

    The base64 of other tools (`sha256//…`, `pin-sha256`) is read as well.
    """
    text = re.sub("^sha256", "sha256", text, flags=re.IGNORECASE)
    digits = re.sub(r"[:\s]", "", text.removeprefix(ALGORITHM)).lower()
    if text.startswith(ALGORITHM) and re.fullmatch(rf"[0-9a-f]{{{_SHA256_DIGITS}}}", digits):
        return ALGORITHM + digits
    if text.startswith(("sha256//", "sha256:")) and (key := _base64(text[len(ALGORITHM) :].lstrip("/"))):
        return ALGORITHM + key.hex()
    plain = re.sub(r"(?i)^sha-?1[:/=]*|[:\s]", "", text)
    if re.fullmatch(rf"[0-9a-fA-F]{{{_SHA1_DIGITS}}}", plain):
        raise ConfigError(
            "this is a SHA-1 of a certificate, as Sming has it; here it is the SHA-256 of the public key",
            hint=PIN_HINT,
        )
    raise ConfigError(f"expected sha256: and {_SHA256_DIGITS} hex digits, got {text[:80]!r}", hint=PIN_HINT)


def pin_of(certificate: bytes) -> str:
    """Return the pin of a certificate in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - 5 MiB
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - only who has pins needs it

    key = load_der_x509_certificate(certificate).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ALGORITHM + hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the other side of a connection is: the version of TLS, and its certificate."""

    version: str
    pin: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime


def facts_of(connection: ssl.SSLSocket) -> Facts:
    """Return what is known after the handshake."""
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - see pin_of

    der = connection.getpeercert(binary_form=True) or b""
    certificate = load_der_x509_certificate(der)
    return Facts(
        version=connection.version() or "",
        pin=pin_of(der),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def translate_error(error: BaseException, where: str, now: datetime) -> TlsError | None:
    """Translate the error of a failed handshake with `where`; None if it was not TLS that failed.

    `now` is this machine's time, which is told where it may be what is wrong.
    """
    if isinstance(error, _WrongPin):
        return TlsError(
            f"{where} has another key than those pinned: {error.pin}",
            code="wrong_pin",
            hint="somebody may be intercepting the connection. If the broker's key was changed, verify this"
            " pin at the broker and put it into mqtt.tls.pins",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, where, now)
    if isinstance(error, ConnectionResetError):
        return TlsError(f"{where} cuts the TLS handshake off", code="no_tls_there", hint=_NO_TLS_HINT)
    if not isinstance(error, ssl.SSLError):
        return None
    return _failed(error, error.reason or "", where)


def _failed(error: ssl.SSLError, reason: str, where: str) -> TlsError:
    if reason in _NOT_TLS:
        return TlsError(f"{where} does not speak TLS", code="no_tls_there", hint=_NO_TLS_HINT)
    if reason in _NO_COMMON_VERSION:
        hint = "let the broker allow TLS 1.2 or 1.3"
        return TlsError(f"{where} speaks only versions of TLS before 1.2", code="old_tls", hint=hint)
    if _CLIENT_REFUSED.search(reason):
        return TlsError(
            f"{where} wants a client certificate and does not take ours ({reason.lower()})",
            code="client_certificate_refused",
            hint="check mqtt.tls.cert_file and key_file, and which authority the broker trusts",
        )
    return TlsError(f"the TLS handshake with {where} failed: {reason.lower() or error}")


def _untrusted(error: ssl.SSLCertVerificationError, where: str, now: datetime) -> TlsError:
    certificate = f"the certificate of {where}"
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        is_late = error.verify_code == _EXPIRED
        return TlsError(
            f"{certificate} {'has expired' if is_late else 'is not valid yet'};"
            f" it is {now:%Y-%m-%d %H:%M} UTC here",
            code="certificate_expired" if is_late else "certificate_not_yet_valid",
            hint="is this machine's clock right? `timedatectl` tells; a pin does not depend on it",
        )
    if error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return TlsError(
            f"{certificate} is for another name: {error.verify_message}",
            code="wrong_name",
            hint="give mqtt.host as the certificate has it, or pin the key",
        )
    if error.verify_code in _NOBODY_VOUCHES:
        return TlsError(
            f"nobody trusted vouches for {where}: {error.verify_message}",
            code="unknown_ca",
            hint=f"name the authority in mqtt.tls.ca_file, or pin the key: {PIN_HINT}",
        )
    return TlsError(
        f"{certificate} is not good: {error.verify_message}",
        code="bad_certificate",
        hint="`openssl s_client -connect HOST:PORT` shows it",
    )


def _load_own(context: ssl.SSLContext, trust: Trust) -> None:
    """Load the client's certificate and key. OpenSSL would ask a terminal for a password."""
    if trust.cert_file is None:
        return
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return trust.key_password or ""

    key_file = trust.key_file or trust.cert_file
    try:
        context.load_cert_chain(trust.cert_file, trust.key_file, password)
    except ssl.SSLError as error:
        files = f"{trust.cert_file} with {key_file}"
        if error.reason == "KEY_VALUES_MISMATCH":
            why = "this key is not the certificate's"
        elif asked:
            why = "the key does not open with the password in mqtt.tls.key_password_file"
            if trust.key_password is None:
                why = "the key is encrypted: give mqtt.tls.key_password_file"
        else:
            why = "no certificate and key in PEM"
        raise TlsError(f"{files}: {why}", code="tls_files") from None
    except OSError as error:
        raise TlsError(f"{trust.cert_file} or {key_file}: {error.strerror}", code="tls_files") from None


def _base64(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _SHA256_BYTES else None
