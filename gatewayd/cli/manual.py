"""The manual pages, generated from --help and the JSON Schema, so that they cannot disagree with either.

`python -m gatewayd.cli.manual gatewayctl.1` prints one; `PAGES` lists their names.
"""

import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import click

from gatewayd import __version__
from gatewayd.cli import exits, roff
from gatewayd.cli.ctl import cli
from gatewayd.cli.daemon import command as daemon
from gatewayd.cli.manual_keys import all_keys
from gatewayd.cli.options import DEFAULT_CONFIG, DEFAULT_SOCKET, SOCKET_VARIABLE
from gatewayd.cli.output import run_program
from gatewayd.cli.web import CREDENTIAL
from gatewayd.cli.web import command as web

_EXITS = [
    (str(exits.DONE), "Success."),
    (str(exits.REFUSED), "Refused, or failed; the reason is on standard error."),
    (str(exits.USAGE), "Invalid options or arguments."),
    (str(exits.UNREACHABLE), "The daemon does not answer."),
    (str(exits.CONFIGURATION), "The configuration is invalid."),
]
_FILES = [
    (str(DEFAULT_CONFIG), "The configuration."),
    ("/var/lib/gatewayd", "Jobs and firmware. Only gatewayd may write there."),
    (
        str(DEFAULT_SOCKET),
        "The control socket, for gatewayctl: usable by root and by the group of the daemon's user.",
    ),
    ("/usr/share/doc/gatewayd", "Operations guide, codes, protocol, and the receiver for devices."),
]
_WEB_FILES = [
    (str(DEFAULT_SOCKET), "The daemon's control socket; gatewayd-web needs its group."),
    (f"/etc/credstore/{CREDENTIAL}", "Who may sign in; the service gets it as a credential."),
    ("/usr/share/doc/gatewayd/docs/web.md", "Who may do what, proxies, translations."),
]
_SIGNALS = [
    (
        "SIGTERM, SIGINT",
        "Stop within five seconds. Interrupted transfers resume after the next start.",
    ),
    ("SIGHUP", "Reload the configuration. Transfers continue; an invalid file changes nothing."),
]
_CONFIGURATION = """
mqtt:
  host: broker.example.com
devices:
  - name: pump-1
    app_id: pump
    version: "4.3.1"
    link: {uart: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0, baud: 115200}
"""


def page(name: str) -> str:
    """Return the page `name`, such as gatewayctl.1, in man(7) format."""
    topic, _, section = name.rpartition(".")
    moment = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
    lines = roff.title(topic, section, moment.date().isoformat(), f"gatewayd {__version__}")
    lines += [*roff.heading("name"), f"{topic} \\- {roff.literal(_SUMMARIES[name])}", *PAGES[name]()]
    others = sorted((other.rpartition(".") for other in PAGES if other != name), key=lambda other: other[2])
    references = ", ".join(f"{roff.bold(topic)}({section})" for topic, _, section in others)
    return roff.document([*lines, *roff.heading("see also"), references])


def _daemon_page() -> Iterator[str]:
    yield from _program(daemon, _context(daemon, "gatewayd"))
    yield from roff.heading("signals")
    yield from roff.items(_SIGNALS)
    yield from roff.heading("exit status")
    yield from roff.items(_EXITS)
    yield from roff.heading("files")
    yield from roff.items(_FILES)


def _web_page() -> Iterator[str]:
    yield from _program(web, _context(web, "gatewayd-web"))
    yield from roff.heading("exit status")
    yield from roff.items(_EXITS)
    yield from roff.heading("environment")
    yield from roff.items([(SOCKET_VARIABLE, "The control socket; --socket overrides it.")])
    yield from roff.heading("files")
    yield from roff.items(_WEB_FILES)


def _ctl_page() -> Iterator[str]:
    context = _context(cli, "gatewayctl")
    yield from _program(cli, context)
    yield from roff.heading("commands")
    yield from _commands(cli, context)
    yield from roff.heading("exit status")
    yield from roff.items(_EXITS)
    yield from roff.heading("environment")
    yield from roff.items([(SOCKET_VARIABLE, "The control socket; --socket overrides it.")])
    yield from roff.heading("files")
    yield from roff.items(_FILES)


def _configuration_page() -> Iterator[str]:
    yield from roff.heading("description")
    yield from roff.paragraph(
        f"{DEFAULT_CONFIG} is YAML. Aliases, duplicate keys, unknown keys and values of the wrong type are"
        " mistakes; `gatewayctl check-config` lists them all. Relative paths start at the folder of the file;"
        " credential:NAME is a file that systemd passes to the service. Put versions, and other text that"
        " looks like a number, in quotes. ${hostname} and ${machine_id} in a value are replaced by those of"
        " this machine."
    )
    yield from roff.paragraph(
        "Files named conf.d/*.yaml beside it are merged over it, in the order of their names: mappings are"
        " merged key by key, lists of devices are joined, and of anything else the later value wins."
        " `gatewayctl config --effective` shows the result."
    )
    yield from roff.heading("example")
    yield from roff.example(_CONFIGURATION.strip())
    for section, text, keys in all_keys():
        yield from roff.heading(section)
        yield from roff.paragraph(text)
        yield from roff.items(keys)
    yield from roff.heading("files")
    yield from roff.items(_FILES)


def _program(command: click.Command, context: click.Context) -> Iterator[str]:
    """Document a program: synopsis, description and options."""
    yield from roff.heading("synopsis")
    yield _usage(command, context)
    yield from roff.heading("description")
    yield from _description(command)
    yield from roff.heading("options")
    yield from roff.items(_options(command, context))


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Document each command of a group, and of the groups in it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = _context(command, name, context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        yield from roff.subheading(" ".join([inner.command_path, *command.collect_usage_pieces(inner)]))
        yield from _description(command)
        yield from roff.items(_options(command, inner)[:-1])  # each has --help


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _usage(command: click.Command, context: click.Context) -> str:
    return (
        f"{roff.bold(context.command_path)} {roff.literal(' '.join(command.collect_usage_pieces(context)))}"
    )


def _description(command: click.Command) -> Iterator[str]:
    """Give the text of --help; click keeps the lines of a paragraph that begins with \\b."""  # noqa: D301 - click's
    for text in inspect.cleandoc(command.help or "").split("\n\n"):
        kept = text.removeprefix("\b\n")
        yield from roff.paragraph(text) if kept == text else roff.example(kept)


def _options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    records = [
        one.get_help_record(context) for one in command.get_params(context) if one.param_type_name == "option"
    ]
    return [record for record in records if record is not None]


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "gatewayd.8": _daemon_page,
    "gatewayd-web.8": _web_page,
    "gatewayctl.1": _ctl_page,
    "gatewayd.yaml.5": _configuration_page,
}
_SUMMARIES = {
    "gatewayd-web.8": "show and control a gateway's updates on a page",
    "gatewayd.8": "deliver firmware from MQTT to microcontrollers",
    "gatewayctl.1": "monitor and control a gateway's updates, build and publish firmware",
    "gatewayd.yaml.5": "configuration of gatewayd",
}


if __name__ == "__main__":
    run_program("gatewayd.cli.manual", lambda: click.echo(page(sys.argv[1]), nl=False))
