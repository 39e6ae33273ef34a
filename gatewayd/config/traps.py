"""What YAML parsers disagree on when it stands without quotes, and what to write instead.

A correction has to be the last one: what it tells a person to write is what the key takes.
"""

import re

from gatewayd.config.corrections import (
    TRUTHS,
    WHOLE_NUMBERS,
    corrected_number,
    corrected_text,
    corrected_truth,
)
from gatewayd.config.mistakes import KeyPath

# Texts longer than that are no value of ours, and not repeated.
_SHOWN_CHARACTERS = 80
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")

# (pattern, what it is, what to write instead).
_TRAPS = [
    (
        re.compile(r"y|n|yes|no|on|off|true|false|null", re.IGNORECASE),
        "is true, false or null to some YAML parsers and text to others",
        'Write true, false or null; or put it in quotes if it is text: "{text}"',
    ),
    (_MAC, "looks like a MAC address, which YAML can read as a number", 'Put it in quotes: "{text}"'),
    (
        re.compile(
            r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        ),
        "without quotes is a decimal fraction (4.10 would become 4.1)",
        'Put text such as a version in quotes: "{text}"; numbers must be whole here',
    ),
    (
        re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE),
        "is not a usable number",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "is a base-60 number to some YAML parsers",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"),
        "is a date to some YAML parsers",
        'Put it in quotes if it is text: "{text}"',
    ),
    (
        re.compile(r"[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oObB][0-7_]+|[-+]?[0-9][0-9_]*"),
        "is not a plain decimal number of at most 19 digits",
        'Write it in decimal without _ or leading 0, or put it in quotes if it is text: "{text}"',
    ),
]


def find_trap(text: str, path: KeyPath) -> tuple[str, str] | None:
    """Say what is wrong with a text without quotes at `path`, and what to write; None: nothing is."""
    for pattern, problem, suggestion in _TRAPS:
        if pattern.fullmatch(text):
            key = str(path[-1]) if path else ""
            shown = "the value" if "password" in key else text[:_SHOWN_CHARACTERS]
            return f"{shown} {problem}", _correction(key, text) or suggestion.format(text=shown)
    return None


def _correction(key: str, text: str) -> str:
    """Say what to write where the key tells what it takes; "": it does not, or nothing fits."""
    if key in WHOLE_NUMBERS:
        return corrected_number(text) or "Write a whole number in decimal, without quotes"
    return corrected_truth(text) if key in TRUTHS else corrected_text(key, text)
