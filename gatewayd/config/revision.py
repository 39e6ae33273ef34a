"""The revision of a configuration: the same for the same effective values, another for any other.

It covers what `gatewayctl config --effective` prints, so a comment changes nothing, and neither does where a
value was written. It covers no secret: it is published, and a weak password could be guessed from a digest.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from gatewayd.config.effective import effective
from gatewayd.config.model import Settings

# 48 bits: enough to tell versions of one file apart, and short enough to read out.
_DIGITS = 12


def revision_of(settings: Settings) -> str:
    """Return the revision of a configuration, however the path to its file was given."""
    text = json.dumps(effective(settings, mode="python"), sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else str(value)
