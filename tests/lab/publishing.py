"""`gatewayctl publish` and its like in this process, with a configuration of one device."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import click

from gatewayd.cli.ctl import cli
from gatewayd.cli.exits import exit_code
from gatewayd.errors import GatewaydError

VECTORS = Path(__file__).parent.parent / "vectors" / "sming"
SIGNED_ENCRYPTED = VECTORS / "signed_encrypted.ota"

PUMP = """
  - name: pump-1
    app_id: pump
    version: "4.3.1"
    {settings}
    link: {{uart: /dev/serial/by-id/none}}
"""
ADVANCED = "payload: advanced\n    keys: pump"


def write_config(folder: Path, port: int, settings: str, extra: str = "") -> Path:
    for name in ("decrypt.key.bin", "verify.key.bin"):
        (folder / name).write_bytes((VECTORS / name).read_bytes())
        (folder / name).chmod(0o600)
    path = folder / "config.yaml"
    path.write_text(
        f"gateway: {{id: barn, state_dir: {folder}/state}}\n"
        f"mqtt: {{host: 127.0.0.1, port: {port}{extra}}}\n"
        "keys: {pump: {decrypt_key_file: decrypt.key.bin, verify_key_file: verify.key.bin}}\n"
        f"devices:{PUMP.format(settings=settings)}"
    )
    return path


@dataclass
class Result:
    """How a command ended; before 8.2 click's own runner mixes stderr into stdout."""

    exit_code: int
    stdout: str
    stderr: str
    error: GatewaydError | None = None


def publish(config: Path, *arguments: object, version: str = "4.3.2", app: str = "pump") -> Result:
    common = ["publish", "--config", str(config), "--app", app, "--version", version]
    return run(*common, *map(str, arguments))


def run(*arguments: str) -> Result:
    """Run gatewayctl."""
    code, error = 0, None
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        try:
            cli.main(list(arguments), standalone_mode=False)
        except click.ClickException as usage:
            code = usage.exit_code
        except GatewaydError as refused:
            code, error = exit_code(refused), refused
    return Result(code, stdout.getvalue(), stderr.getvalue(), error)


def refusal(result: Result) -> GatewaydError:
    assert result.error, result
    return result.error
