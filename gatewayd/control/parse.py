"""Parse requests, and explain to the sender what is wrong with them."""

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gatewayd.control.messages import VERSION
from gatewayd.control.requests import REQUEST, AnyRequest, Request
from gatewayd.errors import RequestError

R = TypeVar("R", bound=Request)

_SAME_VERSION = "are gatewayd and gatewayctl the same version? restart gatewayd after an upgrade"
_SCHEMA = "docs/control.schema.json describes every request"
# Enough of a value to recognise it.
_SHOWN_CHARACTERS = 40
# More than a person or a script gets wrong; pydantic's account of each fault costs memory.
_MOST_FAULTS = 100
# pydantic's error types -> what was expected.
_EXPECTED = {
    "string_type": "text",
    "string_unicode": "UTF-8 text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


def parse(line: bytes) -> AnyRequest:
    """Parse a request as received. Raises RequestError `bad_request`, `protocol_version`."""
    try:
        return REQUEST.validate_json(line)
    except ValidationError as error:
        raise _refusal(error) from None


def build(request: type[R], **fields: Any) -> R:
    """Build a request from what a person typed. Raises RequestError `bad_request`."""
    try:
        return request(**fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> RequestError:
    if error.error_count() > _MOST_FAULTS:
        faults = f"the request has {error.error_count()} faults"
        return RequestError(faults, code="bad_request", hint=_SCHEMA)
    first = error.errors(include_url=False)[0]
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    place = ".".join(str(part) for part in first["loc"])
    code, hint = "bad_request", _SCHEMA
    match kind:
        case "json_invalid":
            said = f"a request is one line of JSON: {context['error']}"
        case "union_tag_not_found" | "dict_type" | "model_attributes_type":
            said = "a request is an object that names its op"
        case "union_tag_invalid":
            said = f"unknown request {_shown(context['tag'])}"
            code, hint = "protocol_version", _SAME_VERSION
        case "literal_error" if first["loc"][-1:] == ("v",):
            said = f"gatewayd speaks version {VERSION} of the protocol, not {_shown(value)}"
            code, hint = "protocol_version", _SAME_VERSION
        case "extra_forbidden":
            said, hint = f"unknown field {_shown(place)}", _SAME_VERSION
        case "missing":
            said = f"{place} is missing"
        case _:
            said, hint = f"{place}: expected {_expected(first)}, got {_shown(value)}", ""
    return RequestError(said, code=code, hint=hint)


def _expected(error: ErrorDetails) -> str:
    expected = _EXPECTED.get(error["type"])
    return expected.format(**error.get("ctx", {})) if expected else error["msg"]


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return f"{len(value)}"
    if not isinstance(value, str):
        return str(value).lower()
    return repr(value) if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]!r} and more"
