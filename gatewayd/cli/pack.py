"""`gatewayctl pack`: put firmware images into a Sming OTA container."""

import contextlib
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import click

from gatewayd.cli.options import json_option
from gatewayd.cli.own_versions import NamedImage, check_agreement
from gatewayd.errors import ConfigError, FirmwareError, HostError
from gatewayd.ota.container import Rom, build, built_at, encrypt, timestamp_of
from gatewayd.ota.file_kinds import advice, is_container, nested, refuse_keys
from gatewayd.ota.keys import OtaKey, parse_ota_key

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_MAX_ADDRESS = 0xFFFFFFFF
_MAX_ROMS = 255

Image = tuple[int, Path]


def _image(text: str) -> Image:
    """Read `ADDRESS=FILE`; the address is decimal, or hex with 0x."""
    number, _, name = text.partition("=")
    if not name or not _ADDRESS.fullmatch(number):
        raise click.BadParameter(f"{text!r} is not ADDRESS=FILE, such as 0x2000=rom0.bin")
    address = int(number, 16 if number[:2] in ("0x", "0X") else 10)
    if address > _MAX_ADDRESS:
        raise click.BadParameter(f"address {number} is above {_MAX_ADDRESS:#x}")
    return address, Path(name)


@click.command()
@click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The ota.key that signs and encrypts (from gatewayctl keygen).",
)
@click.option(
    "--no-sign", is_flag=True, help="Write an MD5 sum, which proves nothing, instead of a signature."
)
@click.option("--no-encrypt", is_flag=True, help="Leave the images readable.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The container to write; an existing one is replaced atomically.",
)
@json_option
@click.argument("images", type=_image, nargs=-1, required=True, metavar="ADDRESS=FILE...")
def command(
    key_file: Path | None,
    no_sign: bool,
    no_encrypt: bool,
    output: Path,
    as_json: bool,
    images: tuple[Image, ...],
) -> None:
    """Put firmware images into a signed and encrypted OTA container.

    Each image is ADDRESS=FILE: the flash address of the slot it is linked for, and its file. The build
    timestamp is now (UTC): devices refuse a container older than the last one they took.
    Images that say their version (MCUboot's) must all say the same one.
    """
    _check_usage(key_file, no_sign, no_encrypt, output, images)
    key = _read_key(key_file) if key_file else None
    roms = [Rom(address, _read_image(path)) for address, path in images]
    timestamp_ms = timestamp_of(datetime.now(UTC))
    versions = check_agreement(
        [NamedImage(str(path), rom.content) for rom, (_, path) in zip(roms, images, strict=True)]
    )
    packed = _pack(roms, timestamp_ms, None if no_sign else key, None if no_encrypt else key)
    _replace(output, packed)
    summary = {
        "file": str(output),
        "size": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "timestamp_ms": timestamp_ms,
        "built_at": built_at(timestamp_ms),
        "signed": not no_sign,
        "encrypted": not no_encrypt,
        "roms": [
            {
                "address": rom.address,
                "size": len(rom.content),
                "sha256": hashlib.sha256(rom.content).hexdigest(),
            }
            | ({"own_version": own} if own else {})
            for rom, own in zip(roms, versions, strict=True)
        ],
    }
    click.echo(json.dumps(summary) if as_json else _for_people(summary, images, roms, versions))


def _check_usage(
    key_file: Path | None, no_sign: bool, no_encrypt: bool, output: Path, images: tuple[Image, ...]
) -> None:
    if key_file is None and not (no_sign and no_encrypt):
        raise click.UsageError("--key is needed, unless both --no-sign and --no-encrypt are given")
    if len(images) > _MAX_ROMS:
        raise click.UsageError(f"a container holds at most {_MAX_ROMS} images, got {len(images)}")
    addresses = [address for address, _ in images]
    for address in addresses:
        if addresses.count(address) > 1:
            raise click.UsageError(f"address {address:#x} is given {addresses.count(address)} times")
    inputs = [path for _, path in images] + ([key_file] if key_file else [])
    for path in inputs:
        if path.exists() and output.exists() and path.samefile(output):
            raise click.UsageError(f"--output {output} would overwrite the input {path}")


def _read_key(path: Path) -> OtaKey:
    try:
        return parse_ota_key(path.read_bytes())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", code=error.code, hint=error.hint) from None


def _read_image(path: Path) -> bytes:
    content = path.read_bytes()
    if not content:
        raise FirmwareError(f"{path} is empty, expected a firmware image", code="empty_rom")
    refuse_keys(content, str(path))
    if is_container(content):
        raise nested(str(path), str(path))
    if said := advice(content):
        click.echo(f"warning: {path}: {said}", err=True)
    return content


def _pack(roms: list[Rom], timestamp_ms: int, signing: OtaKey | None, encrypting: OtaKey | None) -> bytes:
    plain = build(roms, timestamp_ms, signing.seed if signing else None)
    return encrypt(plain, encrypting.stream_key) if encrypting else plain


def _replace(output: Path, content: bytes) -> None:
    """Write a temporary file, then rename it over `output`: readers see the old container or the new."""
    if not output.absolute().parent.is_dir():
        raise HostError(f"cannot write {output}: its directory does not exist", code="no_directory")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with contextlib.ExitStack() as undo:
        with temporary.open("xb") as file:
            undo.callback(temporary.unlink)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
        undo.pop_all()


def _for_people(
    summary: dict[str, object], images: tuple[Image, ...], roms: list[Rom], versions: list[str | None]
) -> str:
    signed = "signed" if summary["signed"] else "not signed"
    encrypted = "encrypted" if summary["encrypted"] else "not encrypted"
    lines = [
        f"{summary['file']}: {summary['size']} bytes, {signed}, {encrypted}, built {summary['built_at']}"
    ]
    lines += [
        f"  {rom.address:#010x}  {len(rom.content)} bytes  {path}"
        + (f", says that it is {own}" if own else "")
        for rom, (_, path), own in zip(roms, images, versions, strict=True)
    ]
    return "\n".join(lines)
