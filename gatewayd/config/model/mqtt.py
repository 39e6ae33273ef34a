"""The section `mqtt`: the broker, TLS to it, and how often the gateway connects."""

import ipaddress
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from gatewayd.config.corrections import corrected_host
from gatewayd.config.duration import PATTERN as DURATION_PATTERN
from gatewayd.config.duration import duration_text, read_duration
from gatewayd.config.model.values import LocalPath, Section, Text, parsed, refuse
from gatewayd.errors import GatewaydError
from gatewayd.ota.topic import DEFAULT_TEMPLATE, TopicTemplate
from gatewayd.tls import Trust, parse_pin

# Connecting more often than this saves nothing. Connecting less often leaves little of the week for which the
# broker keeps messages, if one connection fails.
SHORTEST_EVERY, LONGEST_EVERY = timedelta(seconds=5), timedelta(days=3)
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(hours=1)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?")


def _pin(text: str) -> str:
    try:
        return parse_pin(text)
    except GatewaydError as error:
        raise refuse(error.message, error.hint) from None


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not _HOST.fullmatch(text):
            got = "a URL with a login in it" if "@" in text else repr(text[:80])
            message = f"expected only a host name or an address, got {got}"
            raise refuse(message, corrected_host(text)) from None
    return text


def _status_topic(text: str) -> str:
    rest = text.replace("{gateway_id}", "", 1)
    if not rest.isprintable() or re.search(r"[{}+#]", rest) or text.startswith("$"):
        raise refuse(
            f"expected a topic such as gatewayd/{{gateway_id}}, without + # or more braces, got {text[:80]!r}"
        )
    return text


def _discovery_prefix(text: str) -> str:
    if not text.isprintable() or re.search(r"[+#]", text) or text.startswith("$") or "" in text.split("/"):
        raise refuse(
            "expected a topic such as homeassistant, without + or #, or a slash at either end,"
            f" got {text[:80]!r}"
        )
    return text


def _duration(shortest: timedelta, longest: timedelta) -> Callable[[Any], timedelta]:
    def read(value: Any) -> timedelta:
        try:
            return read_duration(value, shortest, longest)
        except GatewaydError as error:
            raise refuse(error.message, error.hint) from None

    return read


def _shorter_than_every(wait: timedelta, info: ValidationInfo) -> timedelta:
    every = info.data.get("every")
    if every is not None and wait >= every:
        raise refuse(f"expected less than every: {duration_text(every)}, got {duration_text(wait)}")
    return wait


Pin = Annotated[str, AfterValidator(_pin), Field(json_schema_extra={"pattern": "^sha256[:/]"})]
OtaTopicTemplate = Annotated[
    TopicTemplate,
    PlainValidator(parsed(TopicTemplate, TopicTemplate)),
    PlainSerializer(lambda topic: topic.template),
    WithJsonSchema({"type": "string", "default": DEFAULT_TEMPLATE}),
]
_AS_TEXT = (PlainSerializer(duration_text), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}))
Every = Annotated[timedelta, PlainValidator(_duration(SHORTEST_EVERY, LONGEST_EVERY)), *_AS_TEXT]
Wait = Annotated[
    timedelta,
    PlainValidator(_duration(SHORTEST_WAIT, LONGEST_WAIT)),
    AfterValidator(_shorter_than_every),
    *_AS_TEXT,
]


class TlsSection(Section):
    """TLS to the broker; {} for the system's certificate authorities and nothing else."""

    ca_file: LocalPath | None = Field(
        None, description="Certificate authorities in PEM. Default: the system's, unless pins are given"
    )
    cert_file: LocalPath | None = Field(None, description="This gateway's certificate, in PEM")
    key_file: LocalPath | None = Field(None, description="Its key, if that is not in cert_file")
    key_password_file: LocalPath | None = Field(None, description="File that holds only the key's password")
    pins: tuple[Pin, ...] = Field(
        (), strict=False, max_length=16, description="The broker's key must be one of these: sha256:…"
    )


class Periodic(Section):
    """For metered connections: connect, fetch what is waiting, disconnect."""

    every: Every = Field(description="Time between connections, plus or minus a tenth: 5s to 3d")
    wait: Wait = Field(description="How long to stay connected while nothing arrives: 1s to 1h")


class HomeAssistant(Section):
    """Home Assistant: each device, and the gateway itself, appear there; {} for its usual prefix."""

    prefix: Annotated[Text, AfterValidator(_discovery_prefix)] = Field(
        "homeassistant", description="Home Assistant's discovery prefix"
    )


class _AlwaysOrPeriodic:
    """Reads `always` or a mapping: a union would report a mistake once for each of its members."""

    def __get_pydantic_core_schema__(self, _type: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, inner: Callable[[Any], Any]) -> Any:
            if value == "always":
                return value
            if isinstance(value, dict | Periodic):
                return inner(value)
            raise refuse("expected always, or {every: 6h, wait: 2m} for a metered connection")

        def write(value: Any, inner: Callable[[Any], Any]) -> Any:
            return value if value == "always" else inner(value)

        periodic = handler.generate_schema(Periodic)
        return core_schema.no_info_wrap_validator_function(
            read,
            periodic,
            serialization=core_schema.wrap_serializer_function_ser_schema(write, schema=periodic),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"const": "always", "type": "string"}, handler(schema)]}


class MqttSection(Section):
    """The broker, as written."""

    host: Annotated[str, AfterValidator(_host)] = Field(description="Host name or address of the broker")
    port: int | None = Field(
        None, ge=1, le=65535, description="Port of the broker. Default: 1883, or 8883 with tls"
    )
    client_id: Text = Field(
        default_factory=lambda: f"gatewayd-{socket.gethostname()}",
        description="Must be unique at the broker. Default: gatewayd-<gateway id>",
    )
    username: Text | None = Field(None, description="User name at the broker")
    password_file: LocalPath | None = Field(None, description="File that holds only the password")
    tls: TlsSection | None = Field(None, description="TLS to the broker. Default: none, unencrypted")
    connect: Annotated[Literal["always"] | Periodic, _AlwaysOrPeriodic()] = Field(
        "always", description="always, or {every: 6h, wait: 2m} for a metered connection"
    )
    ota_topic: OtaTopicTemplate = Field(
        default_factory=TopicTemplate,
        description="Topic of an application's firmware; /s or /u is appended for the channels",
    )
    status_topic: Annotated[Text, AfterValidator(_status_topic)] = Field(
        "gatewayd/{gateway_id}", description="Root of the topics this gateway publishes its status on"
    )
    max_message_mib: int = Field(16, ge=1, le=255, description="Largest message accepted, in MiB")
    home_assistant: HomeAssistant | None = Field(
        None, description="Let devices appear in Home Assistant, with a button to install. Default: off"
    )


class Mqtt(MqttSection):
    """The broker, with its secrets loaded. `tls_digest` changes when the content of a file of `tls` does.

    `unusable`: what is wrong with one of the files, as found at the start; empty if nothing is.
    """

    port: int
    password: SecretStr | None = None
    key_password: SecretStr | None = None
    tls_digest: str = Field("", exclude=True)
    unusable: str = Field("", exclude=True)

    @property
    def trust(self) -> Trust | None:
        """The trust settings for TLS; None: no TLS."""
        if self.tls is None:
            return None
        password = self.key_password.get_secret_value() if self.key_password else None
        tls = self.tls
        return Trust(tls.ca_file, tls.cert_file, tls.key_file, password, tls.pins)
