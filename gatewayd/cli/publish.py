"""`gatewayctl publish`: send firmware to the broker, as the retained release of its topic."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import click

from gatewayd.cli.options import account_options, config_option, json_option
from gatewayd.cli.own_versions import check_claim, images_in
from gatewayd.codes import Code
from gatewayd.config import Device, Settings, load
from gatewayd.errors import FirmwareError, GatewaydError
from gatewayd.images.opened import open_firmware
from gatewayd.jobs.eligibility import check_own_versions, images_of, line_of, profile_of
from gatewayd.jobs.near_misses import near_misses
from gatewayd.mqtt.login import Login
from gatewayd.mqtt.visitor import Account, publish_retained, visit, visitor
from gatewayd.ota.file_kinds import BARE_IMAGE, advice, recognise, refuse_keys, refuse_nesting
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.ota.rules import Payload
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.ota.version import Version
from gatewayd.protocol.image import check_own_version
from gatewayd.protocol.registry import PROTOCOLS

MIB = 1024 * 1024
# The most that MQTT allows in one packet after its fixed header: topic, identifiers and message.
MAX_PACKET_BYTES = 268_435_455
# The length of the topic, a packet identifier, and the length of the properties, of which there are none.
AROUND_TOPIC_BYTES = 2 + 2 + 1
CHANNELS = {"s": Channel.STABLE, "u": Channel.UNSTABLE}


@dataclass(frozen=True)
class Publication:
    """A message to publish, and the warnings about it."""

    topic: str
    version: Version
    encoding: PatchEncoding
    kind: str
    message: bytes
    warnings: tuple[str, ...]
    is_futile: bool
    own_version: str | None = None  # what the images say that they are


@dataclass(frozen=True)
class _Opinion:
    """What a device makes of a message: why it refuses it, or which version its images say that they are."""

    device: str
    code: str = ""
    reason: str = ""
    own_version: str | None = None


@click.command()
@config_option("The gateway's configuration: says where the broker is.")
@click.option("--app", required=True, help="The application, as app_id in the configuration.")
@click.option("--version", "version_text", required=True, metavar="M.m.p", help="The firmware's version.")
@click.option("--channel", type=click.Choice(tuple(CHANNELS)), help="s: stable, u: unstable. [default: none]")
@click.option(
    "--patch-encoding",
    type=click.Choice([encoding.value for encoding in PatchEncoding]),
    help="[default: that of the application's devices in the configuration, or else varint]",
)
@click.option("--plain", is_flag=True, help="Publish the file as it is, such as a bare image.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the message to a file instead of publishing it: for `gatewayctl explain`.",
)
@click.option("--force", is_flag=True, help="Publish although every device concerned would refuse it.")
@account_options
@json_option
@click.argument("container", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(  # noqa: PLR0913, PLR0917 - click hands over each option
    config: Path,
    app: str,
    version_text: str,
    channel: str | None,
    patch_encoding: str | None,
    plain: bool,
    output: Path | None,
    force: bool,
    account: Account | None,
    as_json: bool,
    container: Path,
) -> None:
    """Publish a container as the release of an application, version line (major.minor) and channel.

    The patch version is put in front as a header. The broker retains the message, so gateways that connect
    later get it too. Returns once the broker has it. What a device in this configuration would refuse, such
    as a message above mqtt.max_message_mib, causes a warning; --force is needed where all of them would.
    """
    settings = load(config)
    try:
        version = Version.parse(version_text)
        topic = OtaTopic(app, version.major, version.minor, CHANNELS.get(channel or "", Channel.NONE))
    except GatewaydError as error:
        raise click.UsageError(str(error)) from None
    encoding = PatchEncoding(patch_encoding) if patch_encoding else _usual_encoding(settings, app)
    release = _release(settings, topic, version, encoding, container, plain=plain)
    for warning in release.warnings:
        click.echo(f"warning: {warning}", err=True)
    if output is not None:
        output.write_bytes(release.message)
    elif release.is_futile and not force:
        raise FirmwareError(
            f"{release.topic}: nothing was published, for every device concerned in {settings.file}"
            " would refuse it",
            code="all_would_refuse",
            hint="the warnings say why; --force publishes it all the same",
        )
    else:
        asyncio.run(_publish(visitor(settings.mqtt, account=account), release))
    _print_result(settings, release, output, as_json=as_json)


def _usual_encoding(settings: Settings, app: str) -> PatchEncoding:
    encodings = {device.patch_encoding for device in settings.devices if device.app_id == app}
    if len(encodings) > 1:
        raise click.UsageError(f"the devices of {app} differ in patch_encoding: give --patch-encoding")
    return encodings.pop() if encodings else PatchEncoding.VARINT


def _release(
    settings: Settings,
    topic: OtaTopic,
    version: Version,
    encoding: PatchEncoding,
    file: Path,
    *,
    plain: bool,
) -> Publication:
    content = file.read_bytes()
    refuse_keys(content, str(file))
    refuse_nesting(content, str(file))
    takers = [device for device in settings.devices if _takes(device, topic)]
    try:
        kind = recognise(content)
    except FirmwareError as error:
        if not plain or not content:
            hint = (
                "gatewayctl withdraw takes a release back"
                if not content
                else error.hint or "--plain publishes it anyway"
            )
            raise FirmwareError(f"{file}: {error.message}", code=error.code, hint=hint) from None
        kind = "damaged container"
    if kind == BARE_IMAGE and not plain and not any(device.payload is Payload.STANDARD for device in takers):
        raise FirmwareError(
            f"{file} is not an OTA container, and no device of {topic.app_id}"
            f" {version.major}.{version.minor} in {settings.file} has payload: standard",
            code="no_container",
            hint="gatewayctl pack makes a container; --plain publishes the file as it is",
        )
    if kind == BARE_IMAGE and not plain:
        _check_own_version(takers, version, content, file)
    own = None
    if not plain:
        own = check_claim(images_in(content, str(file)), str(version), escape="; --plain publishes it anyway")
    message = encode_patch(version.patch, encoding) + content
    topic_text = settings.mqtt.ota_topic.build(topic)
    room = MAX_PACKET_BYTES - AROUND_TOPIC_BYTES - len(topic_text.encode())
    if len(message) > room:
        raise FirmwareError(
            f"{file} with its patch version has {len(message)} bytes; one MQTT message on {topic_text} holds"
            f" {room}",
            code="too_large",
            hint="nothing was sent; a larger firmware cannot come over MQTT",
        )
    said = advice(content) if kind == BARE_IMAGE else None
    warnings = [f"{file}: {said}"] if said else []
    limit_mib = settings.mqtt.max_message_mib
    is_too_large = len(message) > limit_mib * MIB
    if is_too_large:
        warnings.append(
            f"{len(message)} bytes are more than a gateway with mqtt.max_message_mib: {limit_mib} accepts"
        )
    opinions = [_opinion(settings, device, version, encoding, kind, message) for device in takers]
    refusals = [one for one in opinions if one.code]
    if not plain:
        own = _own_version_for(opinions, file) or own
    warnings += [f"{one.device} {one.reason}" for one in refusals] if takers else _misses(settings, topic)
    is_futile = bool(takers) and (is_too_large or len(refusals) == len(takers))
    return Publication(topic_text, version, encoding, kind, message, tuple(warnings), is_futile, own)


def _check_own_version(takers: list[Device], version: Version, content: bytes, file: Path) -> None:
    """Raise FirmwareError when the image is none for a device that takes it, or says another version."""
    for device in takers:
        if device.payload is not Payload.STANDARD:
            continue
        try:
            own = PROTOCOLS[device.protocol].read_version(content)
            if own is not None:
                check_own_version(own, str(version))
        except FirmwareError as error:
            raise FirmwareError(
                f"{file}, for {device.name}: {error.message}", code=error.code, hint=error.hint
            ) from None


def _own_version_for(opinions: list[_Opinion], file: Path) -> str | None:
    """Return the version that devices read in a message, with their keys, too. Raises FirmwareError."""
    for one in opinions:
        if one.code == Code.IMAGE_VERSION_DIFFERS:
            raise FirmwareError(f"{file}, {one.device} {one.reason}", code=one.code)
    return next((one.own_version for one in opinions if one.own_version), None)


def _takes(device: Device, topic: OtaTopic) -> bool:
    return (
        device.app_id == topic.app_id
        and topic.channel in device.channels
        and line_of(device, device.version) == (topic.major, topic.minor)
    )


def _misses(settings: Settings, topic: OtaTopic) -> list[str]:
    """Return what to check where no device follows the topic."""
    misses = near_misses(topic, [(device, device.version) for device in settings.devices])
    nobody = f"no device in {settings.file} takes it; check that it is meant for this gateway"
    return [nobody, *(f"a near miss: {miss}" for miss in misses)]


def _opinion(
    settings: Settings,
    device: Device,
    version: Version,
    encoding: PatchEncoding,
    kind: str,
    message: bytes,
) -> _Opinion:
    """Return what a device that follows the topic makes of the message."""
    if device.patch_encoding is not encoding:
        text = f"expects patch_encoding: {device.patch_encoding}, and this is {encoding}"
        return _Opinion(device.name, Code.OTHER_ENCODING, text)
    if device.payload is Payload.STANDARD and kind != BARE_IMAGE:
        text = f"has payload: standard, and would take the whole {kind} for its image"
        return _Opinion(device.name, Code.NESTED_CONTAINER, text)
    try:
        verdict = open_firmware(message, profile_of(settings, device), settings.keys_of(device)).verdict()
        check_own_versions(device, verdict, version)
    except FirmwareError as error:
        return _Opinion(device.name, error.code, f"will refuse it ({error.code}): {error}")
    own = next((image.own_version for image in images_of(device, verdict) if image.own_version), None)
    return _Opinion(device.name, own_version=own)


async def _publish(login: Login, release: Publication) -> None:
    """Return when the broker has it. Raises BrokerError."""
    connection = await visit(login)
    try:
        await publish_retained(connection, release.topic, release.message)
    finally:
        await connection.close()


def _print_result(settings: Settings, release: Publication, output: Path | None, *, as_json: bool) -> None:
    size = len(release.message)
    if as_json:
        document = {
            "topic": release.topic,
            "version": str(release.version),
            "size": size,
            "recognised": release.kind,
            "patch_encoding": release.encoding.value,
            "warnings": release.warnings,
            "own_version": release.own_version,
        }
        click.echo(json.dumps(document))
        return
    end = f"in {output}" if output else f"retained by {settings.mqtt.host}:{settings.mqtt.port}"
    said = f" that says it is {release.own_version}" if release.own_version else ""
    click.echo(f"{release.topic}: version {release.version}, {size} bytes, {release.kind}{said}; {end}")
