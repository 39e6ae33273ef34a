"""`gatewayctl pin HOST:PORT`: print the pin of a broker's key, for mqtt.tls.pins."""

import re
import socket
import ssl
from datetime import UTC, datetime

import click

from gatewayd.cli.formatting import printable
from gatewayd.cli.options import json_option
from gatewayd.cli.report import PinReport
from gatewayd.errors import HostError
from gatewayd.tls import Facts, TlsError, Trust, curious_context, facts_of, make_context, translate_error

_LIMIT_S = 10.0
_DEFAULT_PORT = 8883
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>[0-9]{1,5}))?")


class _Address(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    name = "host:port"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Split HOST:PORT."""
        match = _ADDRESS.fullmatch(value)
        port = int(match["port"] or _DEFAULT_PORT) if match else 0
        if not match or not 0 < port < 65536:  # noqa: PLR2004 - a port is 16 bits
            self.fail(f"expected HOST:PORT or [ADDRESS]:PORT, got {value[:80]!r}", param, ctx)
        return match["v6"] or match["host"], port


@click.command()
@click.argument("broker", type=_Address(), metavar="HOST[:PORT]")
@json_option
def command(broker: tuple[str, int], as_json: bool) -> None:
    """Print the pin of a broker's key, for mqtt.tls.pins.

    This is only what the answering server claims: compare it with the broker's own key before you trust it.
    The default PORT is 8883. The pin goes to standard output, everything else to standard error.
    """
    host, port = broker
    report = look(host, port)
    if as_json:
        click.echo(report.model_dump_json())
        return
    click.echo(report.pin)
    for line in _about(report, f"{host}:{port}"):
        click.echo(line, err=True)


def look(host: str, port: int) -> PinReport:
    """Fetch a broker's certificate. Raises TlsError, HostError `broker_unreachable`."""
    facts = _shake_hands(host, port, curious_context())
    why_not = None
    try:
        _shake_hands(host, port, make_context(Trust()))
    except TlsError as error:
        why_not = error.message
    return PinReport(
        pin=facts.pin,
        tls=facts.version,
        subject=facts.subject,
        issuer=facts.issuer,
        not_before=facts.not_before,
        not_after=facts.not_after,
        vouched=why_not is None,
        why_not=why_not,
    )


def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> Facts:
    try:
        with (
            socket.create_connection((host, port), _LIMIT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as encrypted,
        ):
            return facts_of(encrypted)
    except OSError as error:
        if found := translate_error(error, f"{host}:{port}", datetime.now(UTC)):
            raise TlsError(found.message, code=found.code, hint=found.hint) from None
        raise HostError(
            f"{host}:{port} cannot be reached: {error.strerror or error}", code="broker_unreachable"
        ) from None


def _about(report: PinReport, where: str) -> list[str]:
    dates = f"{report.not_before:%Y-%m-%d} to {report.not_after:%Y-%m-%d}"
    vouched = "yes, by an authority this system trusts" if report.vouched else f"no: {report.why_not}"
    return [
        "",
        f"subject  {printable(report.subject)}",
        f"issuer   {printable(report.issuer)}",
        f"valid    {dates}, {report.tls}",
        f"trusted  {printable(vouched)}",
        "",
        "To check that it is the broker's, compare with this command there, on its certificate broker.pem:",
        "  openssl x509 -in broker.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum",
        f"If they match, configure it for {where}:",
        "",
        "mqtt:",
        "  tls:",
        f'    pins: ["{report.pin}"]',
    ]
