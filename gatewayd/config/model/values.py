"""What all sections share: their base class, the types of their values, and how a value is refused."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from gatewayd.errors import GatewaydError

T = TypeVar("T")

# What fits into an MQTT topic, a file name, JSON and a shell without quotes.
NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
# A file that systemd hands over: LoadCredential=NAME:… in the unit.
CREDENTIAL = "credential:"
UNIT_CREDENTIALS = "/run/credentials/gatewayd.service"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Section(BaseModel):
    """The base of all sections: frozen, no coercion, no unknown keys, no input in errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


def refuse(message: str, suggestion: str = "") -> PydanticCustomError:
    """What a check raises; the message follows the key path."""
    return PydanticCustomError("value_refused", "{message}", {"message": message, "suggestion": suggestion})


def parsed(parse: Callable[[str], T], type_: type[T]) -> Callable[[Any], Any]:
    """Return a validator that reads text with `parse`; a value that is a `type_` already passes."""

    def read(value: Any) -> Any:
        if isinstance(value, type_):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "expected text")
        try:
            return parse(value)
        except GatewaydError as error:
            raise refuse(error.message, error.hint) from None

    return read


def _printable(text: str) -> str:
    if has_control_characters(text):
        raise refuse(f"expected no control characters, got {text[:80]!r}")
    return text


def local_path(path: Path, info: ValidationInfo) -> Path:
    """Return where a file of the configuration is; relative paths begin at the configuration's folder.

    Validators that build on this one call it: of several AfterValidators beside a Field, pydantic 2.10 keeps
    only the last.
    """
    if str(path).startswith(CREDENTIAL):
        return _credential(str(path).removeprefix(CREDENTIAL))
    if str(path).startswith("~"):
        raise refuse(
            f"~ is not replaced here, got {str(path)[:80]!r}",
            "Write the full path; below /home and /root the service sees nothing, so use /etc/gatewayd",
        )
    if has_control_characters(str(path)) or path == Path():
        raise refuse("expected the path of a file")
    folder = (info.context or {}).get("folder")
    return folder / path if folder else path


def _credential(name: str) -> Path:
    """Return the path of a systemd credential: as the environment says, else in the unit's usual folder."""
    if not re.fullmatch(NAME_PATTERN, name) or name.startswith("."):
        raise refuse(f"expected {CREDENTIAL}NAME, with the name from LoadCredential= in the unit")
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", UNIT_CREDENTIALS)) / name


def has_control_characters(text: str) -> bool:
    """Whether text contains control characters."""
    return _CONTROL.search(text) is not None


# Enumerations are text in a file: strict mode would demand members.
LAX = Field(strict=False)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
LocalPath = Annotated[Path, LAX, AfterValidator(local_path)]
