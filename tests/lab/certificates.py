"""Certificates for tests, made when they run: an authority, and what it vouches for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gatewayd.tls import pin_of
from lab.brokers import Mosquitto

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def pin(self) -> str:
        return pin_of(self.certificate.public_bytes(Encoding.DER))

    def key_pem(self, password: str = "") -> bytes:
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, folder: Path, name: str, password: str = "") -> tuple[Path, Path]:
        """Write `NAME.pem` and `NAME.key`; return both."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.touch(0o600)
        key.write_bytes(self.key_pem(password))
        return certificate, key


class Authority:
    """Vouches for others. Its certificate and theirs begin `starts_in` from now, and hold for `lasts`."""

    def __init__(self, name: str = "test authority") -> None:
        self.identity = self._make(name, ca=True)

    @property
    def pem(self) -> bytes:
        return self.identity.pem

    def vouch(
        self, name: str = "localhost", *, starts_in: timedelta = -DAY, lasts: timedelta = 2 * DAY
    ) -> Identity:
        return self._make(name, starts_in=starts_in, lasts=lasts)

    def _make(
        self, name: str, *, ca: bool = False, starts_in: timedelta = -DAY, lasts: timedelta = 2 * DAY
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer: Any = subject if ca else self.identity.certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + starts_in)
            .not_valid_after(NOW + starts_in + lasts)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return Identity(builder.sign(key if ca else self.identity.key, hashes.SHA256()), key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name.replace(" ", "-"))


OURS = Authority()


@contextmanager
def tls_broker(folder: Path, identity: Identity, *extra: str) -> Iterator[Mosquitto]:
    """A mosquitto that is who `identity` says, and asks our authority about clients."""
    folder.mkdir()
    certificate, key = identity.write(folder, "broker")
    (folder / "ca.pem").write_bytes(OURS.pem)
    lines = [f"certfile {certificate}", f"keyfile {key}", f"cafile {folder / 'ca.pem'}", *extra]
    with Mosquitto(folder / "mosquitto", *lines) as broker:
        yield broker
