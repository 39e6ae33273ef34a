"""Sming's OTA topics: one per application, major.minor line and channel.

A topic is the template with its three placeholders filled in, then nothing, `/s` (stable) or `/u`
(unstable). Building and parsing are exact inverses, so a template in which two placeholders could run into
each other is refused.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.errors import ConfigError
from gatewayd.ota.version import LIMIT, Version

DEFAULT_TEMPLATE = "/a/{app_id}/u/{major}.{minor}"

# Far above any real root, far below MQTT's 65,535 bytes for a whole topic.
MAX_TEMPLATE_LENGTH = 1024
MAX_APP_ID_BYTES = 64

_PLACEHOLDERS = ("app_id", "major", "minor")
_NUMBER = "0|[1-9][0-9]{0,19}"
_PATTERNS = {
    "app_id": "(?P<app_id>[^/+#]+)",
    "major": f"(?P<major>{_NUMBER})",
    "minor": f"(?P<minor>{_NUMBER})",
}


class Channel(StrEnum):
    """Which stream of releases of a major.minor line."""

    NONE = "none"
    STABLE = "stable"
    UNSTABLE = "unstable"


_SUFFIXES = {Channel.NONE: "", Channel.STABLE: "/s", Channel.UNSTABLE: "/u"}
_CHANNELS = {suffix: channel for channel, suffix in _SUFFIXES.items()}


def validate_app_id(text: str) -> None:
    """Refuse what cannot be one topic level of 1 to 64 bytes. Raises ConfigError `bad_app_id`."""
    fault = _level_fault(text)
    if not fault and "/" in text:
        fault = "contains '/', which would make two topic levels"
    size = len(text.encode(errors="replace"))
    if not fault and not 1 <= size <= MAX_APP_ID_BYTES:
        fault = f"is {size} bytes long, expected 1 to {MAX_APP_ID_BYTES}"
    if fault:
        raise ConfigError(f"app_id {text[:80]!r} {fault}", code="bad_app_id")


@dataclass(frozen=True, slots=True)
class OtaTopic:
    """What a topic says.

    Raises ConfigError `bad_app_id` or FirmwareError `bad_version` for what no topic can say.
    """

    app_id: str
    major: int
    minor: int
    channel: Channel

    def __post_init__(self) -> None:
        validate_app_id(self.app_id)
        Version(self.major, self.minor, 0)


class TopicTemplate:
    """The configured form of OTA topics. Raises ConfigError `bad_topic_template` when it is unusable."""

    def __init__(self, template: str = DEFAULT_TEMPLATE) -> None:
        self.template = template
        # Literal text at even places, placeholder names at odd ones.
        self._parts = re.split(r"\{([^{}]*)\}", template)
        fault = _template_fault(template, self._parts)
        if fault:
            raise ConfigError(
                f"OTA topic template {template[:120]!r} {fault}",
                code="bad_topic_template",
                hint=f"the usual one is {DEFAULT_TEMPLATE}",
            )
        pieces = [_PATTERNS[part] if at % 2 else re.escape(part) for at, part in enumerate(self._parts)]
        self._pattern = re.compile("".join(pieces) + "(?P<suffix>|/s|/u)")

    def build(self, topic: OtaTopic) -> str:
        """Write `topic` as an MQTT topic."""
        values = {"app_id": topic.app_id, "major": str(topic.major), "minor": str(topic.minor)}
        filled = [values[part] if at % 2 else part for at, part in enumerate(self._parts)]
        return "".join(filled) + _SUFFIXES[topic.channel]

    def parse(self, topic: str) -> OtaTopic | None:
        """Read an MQTT topic; None when it is not one of ours."""
        if len(topic) > len(self.template) + MAX_APP_ID_BYTES + 2 * len(str(LIMIT)) + 2:
            return None
        match = self._pattern.fullmatch(topic)
        if not match:
            return None
        app_id, major, minor = match["app_id"], int(match["major"]), int(match["minor"])
        if major >= LIMIT or minor >= LIMIT:
            return None
        try:
            return OtaTopic(app_id, major, minor, _CHANNELS[match["suffix"]])
        except ConfigError:
            return None

    def suggest(self, topic: str) -> str | None:
        """Return the topic of ours that this one, which is none, was probably meant to be."""
        bare = topic.strip().strip("/")
        near = (text for text in (f"/{bare}", bare) if self.parse(text) is not None)
        return next(near, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicTemplate) and self.template == other.template

    def __hash__(self) -> int:
        return hash(self.template)

    def __repr__(self) -> str:
        return f"TopicTemplate({self.template!r})"


def _template_fault(template: str, parts: list[str]) -> str:
    """Say what is wrong with a template, or return an empty string."""
    names, literals = parts[1::2], parts[0::2]
    faults = (
        (any("{" in text or "}" in text for text in literals), "has a brace without its partner"),
        (
            sorted(names) != sorted(_PLACEHOLDERS),
            "needs {app_id}, {major} and {minor} exactly once each, and no other placeholder",
        ),
        (
            # With text, and none of it a digit, it is clear where each number begins and ends.
            any(not text or re.search("[0-9]", text) for text in literals[1:-1]),
            "needs text without digits between its placeholders, or a topic could be read in two ways",
        ),
        (template.startswith("$"), "begins with '$', which brokers keep for themselves"),
        (len(template) > MAX_TEMPLATE_LENGTH, f"is longer than {MAX_TEMPLATE_LENGTH} characters"),
    )
    return next((text for is_so, text in faults if is_so), "") or _level_fault("".join(literals))


def _level_fault(text: str) -> str:
    """Say which character no topic may contain, or return an empty string."""
    for character in text:
        if character in "+#":
            return f"contains the wildcard {character!r}"
        # Control characters (NUL among them), and surrogates, which have no UTF-8.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            return f"contains the character U+{ord(character):04X}, which an MQTT topic must not"
    return ""
