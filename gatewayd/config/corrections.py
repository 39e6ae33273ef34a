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
# The keys whose value is true or false.
TRUTHS = frozenset(
    {
        "allow_downgrade",
        "allow_no_trial",
        "allow_shared_key",
        "allow_unsigned",
        "dtr",
        "image_check",
        "pair",
        "recovery",
        "rts",
    }
)
_BEHIND = re.compile(r"\s*(baud|bd|bps|bit/s|s|ms|mib)?", re.IGNORECASE)
_CHARACTER = re.compile(r"[ ,/-]+[5-8][NEO][12]$", re.IGNORECASE)  # 115200-8N1
_SEPARATED = re.compile(r"[0-9]+(?:[_ ',][0-9]+)*|[0-9]{1,3}(?:\.[0-9]{3})+")
_EXACT = re.compile(r"([0-9]+)(?:\.0*)?(?:[eE]\+?([0-9]))?")
_OTHER_BASE = re.compile(r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+")
_VERSION = re.compile(
    r"[vV]?([0-9]{1,19})(?:[._:,-]([0-9]{1,19}))?(?:[._:,-]([0-9]{1,19}))?(?P<more>[.+-].*)?"
)
_LINE = re.compile(r"[vV]?([0-9]{1,19})(?:[._:,-]([0-9]{1,19}))?(?:[._:,-]([0-9]{1,19}|[xX*]))?")
_HEX = re.compile(r"(?:0[xX]|\\x)?([0-9A-Fa-f]{2}(?:(?:[ :,-]|\\x|, ?0[xX])?[0-9A-Fa-f]{2}){0,15})")
_TRUE, _FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
_BROKER = re.compile(rf"((?P<scheme>[a-z]+)://)?([^@/]*@)?{_HOST}(:(?P<port>[0-9]{{1,5}}))?/?")
# `scheme://…`, `scheme:host:port` as socat has it, or `host:port`.
_NETWORK_PORT = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)(?:://|:(?=.*:)))?(?:[^@/]*@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?:[/?,#].*)?",
    re.IGNORECASE,
)
# Schemes of pyserial and others for what is no port in the network.
_LOCAL_SCHEMES = {"alt", "cp2110", "file", "hwgrep", "loop", "pty", "serial", "spy", "usb", "uart", "dev"}
_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
# Beyond that nobody means a number of ours.
_LONGEST = 40
_LARGEST = 2**31


def corrected_number(text: str) -> str:
    """Say how to write what was meant as a whole number; "" when that is not plain."""
    value = _whole_number(_CHARACTER.sub("", text.strip()))
    return "" if value is None or value > _LARGEST else f"Write it as {value}, without quotes"


def corrected_version(text: str) -> str:
    """Say how to write what was meant as a version; "" when that is not plain."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return 'Write three whole numbers in quotes, such as "4.3.1"'
    version = ".".join(str(int(part or 0)) for part in match.groups()[:3])
    return f'Write it in quotes and with {"only" if match["more"] else "all"} three numbers: "{version}"'


def corrected_line(text: str) -> str:
    """Say how to write what was meant as a version line."""
    match = _LINE.fullmatch(text.strip())
    if match is None or match[2] is None:
        return 'Write two whole numbers in quotes, such as "4.3"'
    return f'Write it in quotes and with two numbers: "{int(match[1])}.{int(match[2])}"'


def corrected_magic(text: str) -> str:
    """Say how to write what was meant as the first bytes of an image."""
    match = _HEX.fullmatch(text.strip())
    if match is None:
        return 'Write pairs of hex digits in quotes, such as "e9"'
    digits = re.sub("0[xX]|[^0-9A-Fa-f]", "", match[1])
    return f'Write it in quotes: "{digits.lower()}"'


def corrected_truth(text: str) -> str:
    """Say how to write what was meant as true or false; "" when that is not plain."""
    word = text.strip().lower()
    if word in _TRUE:
        return "Write it without quotes: true"
    return "Write it without quotes: false" if word in _FALSE else ""


def corrected_text(key: str, text: str) -> str:
    """Say how to write `text` where `key` takes a text of a certain form; "" where it takes any."""
    correct = {"version": corrected_version, "line": corrected_line, "image_magic": corrected_magic}.get(key)
    return correct(text) if correct else ""


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
    match = _NETWORK_PORT.fullmatch(text)
    if match is None or _ADDRESS.fullmatch(text):
        return False
    scheme = match["scheme"]
    return match["port"] is not None if scheme is None else scheme.lower() not in _LOCAL_SCHEMES


def in_network(text: str) -> tuple[str, str]:
    """Say that ports in the network are not supported, and how a local one can stand for `text`."""
    match = _NETWORK_PORT.fullmatch(text)
    target = f"{match['host']}:{match['port']}" if match and match["port"] else "HOST:PORT"
    return "ports in the network are not supported", (
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
