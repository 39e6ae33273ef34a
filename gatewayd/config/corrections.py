"""Numbers and versions as people write them elsewhere, in the form that a configuration takes."""

import re

# The keys whose value is a whole number, here and in the files of other programs.
WHOLE_NUMBERS = frozenset(
    {
        "attempts",
        "baud",
        "baud_rate",
        "baudrate",
        "chunk_ms",
        "max_connections",
        "max_message_mib",
        "port",
        "trial_s",
        "transfer_baud",
    }
)
_BEHIND = re.compile(r"\s*(baud|bd|bps|bit/s|s|ms|mib)?", re.IGNORECASE)
_SEPARATED = re.compile(r"[0-9]+(?:[_ ',][0-9]+)*")
_EXACT = re.compile(r"([0-9]+)(?:\.0*)?(?:[eE]\+?([0-9]))?")
_OTHER_BASE = re.compile(r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+")
_VERSION = re.compile(r"[vV]?([0-9]{1,19})(?:\.([0-9]{1,19}))?(?:\.([0-9]{1,19}))?")
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
_BROKER = re.compile(rf"((?P<scheme>[a-z]+)://)?([^@/]*@)?{_HOST}(:(?P<port>[0-9]{{1,5}}))?/?")
_NETWORK_PORT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//)?[^/\\]|[0-9.]+:[0-9]|\[[0-9A-Fa-f:]+\]:[0-9]")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\b")
# Beyond that nobody means a number of ours.
_LONGEST = 40
_LARGEST = 2**31


def corrected_number(text: str) -> str:
    """Say how to write what was meant as a whole number; "" when that is not plain."""
    value = _whole_number(text.strip())
    return "" if value is None or value > _LARGEST else f"Write it as {value}, without quotes"


def corrected_version(text: str) -> str:
    """Say how to write what was meant as a version; "" when that is not plain."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return ""
    version = ".".join(str(int(part or 0)) for part in match.groups())
    return f'Write it in quotes and with all three numbers: "{version}"'


def corrected_host(text: str) -> str:
    """Say how to write a URL or `host:port` as a broker's host and port; "" when it is neither."""
    match = _BROKER.fullmatch(text)
    if match is None:
        return ""
    scheme, host, port = match["scheme"] or "", match["host"].strip("[]"), match["port"]
    written = f"host: {host}" + (f" and port: {port}" if port else "")
    if scheme in ("ws", "wss"):
        return f"Write {written} of the broker's plain MQTT listener: MQTT over websockets is not supported"
    return f"Write {written}" + (", and tls: {}" if scheme in ("mqtts", "ssl", "tls") else "")


def is_in_network(text: str) -> bool:
    """Whether a port is written as one that is reached through the network."""
    return not text.startswith("/") and _NETWORK_PORT.match(text) is not None


def pty_instead(text: str) -> str:
    """Say how a local port can stand for one in the network."""
    found = _HOST_AND_PORT.search(text)
    target = found[0] if found else "HOST:PORT"
    return (
        "A local port can stand for it: run"
        f" `socat pty,link=/run/pump-1,rawer,group=dialout,mode=660 tcp:{target}`"
        " and write uart: /run/pump-1 (docs/operations.md, Ports)"
    )


def _whole_number(text: str) -> int | None:
    if len(text) > _LONGEST:
        return None
    if _OTHER_BASE.fullmatch(text):
        return int(text.replace("_", ""), 0)
    match = re.match(r"[0-9][0-9_ ',.eE+]*", text)
    if match is None or not _BEHIND.fullmatch(text[match.end() :]):
        return None
    digits = match[0].rstrip()
    if _SEPARATED.fullmatch(digits):
        return int(re.sub("[^0-9]", "", digits))
    exact = _EXACT.fullmatch(digits.replace("_", ""))
    return int(exact[1]) * 10 ** int(exact[2] or 0) if exact else None
