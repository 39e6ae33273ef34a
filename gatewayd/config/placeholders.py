"""`${hostname}` and `${machine_id}` in the values of a configuration; there are no others.

They are replaced after the YAML was parsed and the files were merged, so that their values are never parsed.
`$${` stands for a literal `${`.
"""

import re
from typing import Any

from gatewayd.config.document import BROKEN, Document
from gatewayd.config.mistakes import KeyPath
from gatewayd.errors import ConfigError

NAMES = ("hostname", "machine_id")
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")


def fill_in(document: Document) -> None:
    """Replace the placeholders in all values, and note those that cannot be replaced."""
    document.root = _filled(document, document.root, ())


def escape(text: str) -> str:
    """Return text that `fill_in` turns back into `text`."""
    return text.replace("${", "$${")


def _filled(document: Document, value: Any, path: KeyPath) -> Any:
    """Return a value with its placeholders replaced. Recursive: DEPTH_LIMIT bounds the depth."""
    if isinstance(value, dict):
        return {key: _filled(document, inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(document, inner, (*path, index)) for index, inner in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        try:
            return _PLACEHOLDER.sub(lambda found: _meaning(document, found), value)
        except ConfigError as error:
            document.wrong(path, error.message, error.hint)
            return BROKEN
    return value


def _meaning(document: Document, found: re.Match[str]) -> str:
    if found[0] == "$${":
        return "${"
    if not found[2] or found[1] not in NAMES:  # its text is not shown: it may be part of a secret
        raise ConfigError("${…} must be ${hostname} or ${machine_id}", hint="write $${ for a literal ${")
    return document.host.name if found[1] == "hostname" else document.host.find_machine_id()
