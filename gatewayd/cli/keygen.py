"""`gatewayctl keygen`: the publisher's key, and the two keys derived from it for gateways."""

import contextlib
import json
import os
from pathlib import Path

import click

from gatewayd.cli.options import json_option
from gatewayd.errors import HostError
from gatewayd.ota.keys import generate

# Where the service sees them: below /home, /root and /tmp its sandbox hides everything.
ETC = Path("/etc/gatewayd")
_SECRET = 0o600
_PUBLIC = 0o644


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The key file, such as ota.key. verify.key.bin and decrypt.key.bin are written beside it.",
)
@json_option
def command(output: Path, as_json: bool) -> None:
    """Create a key that signs and encrypts firmware.

    Keep OTA.KEY where firmware is built. The gateway gets the other two: verify.key.bin is public,
    decrypt.key.bin is secret. Existing files are never overwritten.
    """
    key = generate()
    verify, decrypt = output.with_name("verify.key.bin"), output.with_name("decrypt.key.bin")
    if output in (verify, decrypt):
        raise click.UsageError(f"{output.name} is the name of a derived key; choose another, such as ota.key")
    _write_new(
        [
            (output, key.to_file(), _SECRET),
            (decrypt, key.decrypt_key, _SECRET),
            (verify, key.verify_key, _PUBLIC),
        ]
    )
    fingerprint = key.key_set().fingerprint
    if as_json:
        paths = {"ota_key": output, "decrypt_key": decrypt, "verify_key": verify}
        files = {name: str(path.absolute()) for name, path in paths.items()}
        click.echo(json.dumps(files | {"fingerprint": fingerprint}))
        return
    click.echo(f"{output}: signs and encrypts (mode 0600); keep it where firmware is built, and a copy")
    click.echo(f"{decrypt}: decrypts, secret (mode 0600); for the gateway")
    click.echo(f"{verify}: checks signatures, public; for the gateway")
    click.echo(f"\nKey set {fingerprint}. On the gateway, as root, with the two files beside you:\n")
    click.echo(f"install -o gatewayd -m 600 {decrypt.name} {verify.name} {ETC}/")
    click.echo("\nand in its configuration:\n")
    click.echo("keys:\n  NAME:")
    click.echo(f"    decrypt_key_file: {json.dumps(str(ETC / decrypt.name))}")
    click.echo(f"    verify_key_file: {json.dumps(str(ETC / verify.name))}")


def _write_new(files: list[tuple[Path, bytes, int]]) -> None:
    """Create all of the files, or leave none behind. Raises HostError `file_exists`."""
    for path, _, _ in files:
        if os.path.lexists(path):
            raise _exists(path)
    with contextlib.ExitStack() as undo:
        for path, content, mode in files:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:
                raise _exists(path) from None
            undo.callback(path.unlink)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        undo.pop_all()


def _exists(path: Path) -> HostError:
    return HostError(
        f"{path} exists already, and keys are never overwritten",
        code="file_exists",
        hint="choose another directory, or move it away",
    )
