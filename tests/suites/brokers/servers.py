"""The brokers: how each is set up and started, on a free port of loopback.

Those of Debian run in clean trees of Debian 12 and 13, those of PyPI and npm from folders of their own;
nothing is installed on this machine. Each forbids reading FORBIDDEN_READ and writing FORBIDDEN_WRITE, and
takes messages of LIMIT_BYTES at most, where it can be told to.
"""

import os
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.brokers import free_port
from lab.tree import ROOT

FORBIDDEN_READ = "/a/tank/u/1.0"
FORBIDDEN_WRITE = "gatewayd/barn/devices/tank-1"
LIMIT_BYTES = 256 * 1024
BUILD = ROOT / "build" / "brokers"
DEBIAN_12, DEBIAN_13 = BUILD / "debian-12", BUILD / "debian-13"
VENV = BUILD / "venv"
NPM = BUILD / "npm"


class MissingError(Exception):
    """A broker cannot be had here."""


@dataclass(frozen=True)
class Place:
    """A broker's folder: as we see it, and as the broker does."""

    outside: Path
    inside: str
    port: int

    def write(self, name: str, text: str) -> str:
        """Write a file; return its path for the broker."""
        (self.outside / name).write_text(textwrap.dedent(text).lstrip())
        return f"{self.inside}/{name}"


@dataclass(frozen=True)
class Kind:
    """One broker. `command` prepares its folder and says how it is started; `ready` runs once it listens."""

    name: str
    version: Callable[[], str]
    command: Callable[[Place], list[str]]
    tree: Path | None = None
    ready: Callable[[Place], list[str] | None] = lambda _: None
    username: str | None = None
    has_rules: bool = True
    has_limit: bool = True


class Server:
    """A broker's process; its files survive `stop` and `start`."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.port = free_port()
        inside = f"/srv/{kind.name}-{self.port}" if kind.tree else str(folder)
        outside = kind.tree / inside[1:] if kind.tree else folder
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir(parents=True)
        outside.chmod(0o777)
        self.place = Place(outside, inside, self.port)
        self._command = kind.command(self.place)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_new = True

    def start(self) -> None:
        """Start it; it may take a while to listen."""
        with (self.place.outside / "output").open("ab") as output:
            self._process = subprocess.Popen(self._wrap(self._command), stdout=output, stderr=output)

    def set_up(self) -> None:
        """Carry out what has to be said to it once it listens for the first time."""
        if self._is_new and (command := self.kind.ready(self.place)):
            subprocess.run(self._wrap(command), check=True, capture_output=True, timeout=60)
        self._is_new = False

    def stop(self, limit_s: float = 30.0) -> None:
        """End it with SIGTERM, as a machine that restarts does."""
        if self._process is None:
            return
        if self.kind.tree:
            # Process 1 of its namespace is the broker, or a shell before it: ask the broker itself.
            pid = self._process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGTERM)
        else:
            self._process.terminate()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(limit_s)
        self._process = None

    def output(self) -> str:
        """The end of what it said."""
        return (self.place.outside / "output").read_text(errors="replace")[-2000:]

    def clean(self) -> None:
        """Remove its files."""
        if self.kind.tree:
            shutil.rmtree(self.place.outside, ignore_errors=True)

    def _wrap(self, command: list[str]) -> list[str]:
        if not self.kind.tree:
            return command
        return [str(ROOT / ".ci" / "inside"), "--network", str(self.kind.tree), *command]


def _debian(tree: Path, package: str) -> Callable[[], str]:
    def version() -> str:
        if not tree.exists():
            raise MissingError(f"{tree.relative_to(ROOT)} is not made: make brokers does, as root")
        found = subprocess.run(
            ["chroot", tree, "dpkg-query", "-W", "-f", "${Version}", package],
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout.split("-")[0].split("+")[0]

    return version


def _pypi(package: str) -> Callable[[], str]:
    def version() -> str:
        if not VENV.exists():
            raise MissingError("build/brokers/venv is not made")
        show = [str(VENV / "bin" / "python"), "-m", "pip", "show", package]
        found = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        return next(line.split()[1] for line in found.splitlines() if line.startswith("Version:"))

    return version


def _aedes_version() -> str:
    package = NPM / "node_modules" / "aedes" / "package.json"
    if not package.exists() or shutil.which("node") is None:
        raise MissingError("npm or node is missing on this machine")
    return subprocess.run(
        ["node", "-p", f"require('{package}').version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _mosquitto(place: Place) -> list[str]:
    rules = place.write(
        "acl",
        f"""
        topic deny {FORBIDDEN_READ}
        topic deny {FORBIDDEN_WRITE}
        topic readwrite #
        """,
    )
    (place.outside / "acl").chmod(0o700)
    conf = place.write(
        "mosquitto.conf",
        f"""
        listener {place.port} 127.0.0.1
        user root
        allow_anonymous true
        acl_file {rules}
        max_packet_size {LIMIT_BYTES}
        persistence true
        persistence_location {place.inside}/
        """,
    )
    return ["/usr/sbin/mosquitto", "-c", conf]


def _rabbitmq_3(place: Place) -> list[str]:
    place.write("enabled_plugins", "[rabbitmq_mqtt].\n")
    place.write(
        "rabbitmq.conf",
        f"""
        listeners.tcp = none
        mqtt.listeners.tcp.1 = 127.0.0.1:{place.port}
        """,
    )
    return ["env", *_rabbitmq_environment(place), "/usr/lib/rabbitmq/bin/rabbitmq-server"]


def _rabbitmq(place: Place) -> list[str]:
    command = _rabbitmq_3(place)
    with (place.outside / "rabbitmq.conf").open("a") as conf:
        conf.write("anonymous_login_user = guest\nanonymous_login_pass = guest\n")
        conf.write(f"mqtt.max_packet_size_authenticated = {LIMIT_BYTES}\n")
    return command


def _rabbitmq_environment(place: Place) -> list[str]:
    return [
        f"RABBITMQ_NODENAME=r{place.port}@localhost",
        f"RABBITMQ_BASE={place.inside}",
        f"RABBITMQ_MNESIA_BASE={place.inside}/data",
        f"RABBITMQ_LOG_BASE={place.inside}/log",
        f"RABBITMQ_CONFIG_FILE={place.inside}/rabbitmq.conf",
        f"RABBITMQ_ENABLED_PLUGINS_FILE={place.inside}/enabled_plugins",
        f"RABBITMQ_DIST_PORT={place.port + 20_000}",
        f"ERL_EPMD_PORT={place.port + 21_000}",
        "ERL_EPMD_ADDRESS=127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_PID_FILE=/tmp/rabbitmq.pid",
        f"HOME={place.inside}",
    ]


def _rabbitmq_rules(place: Place) -> list[str]:
    def but(topic: str) -> str:
        return "^(?!" + topic.replace("/", ".").replace(".", r"\.") + ").*"

    rule = ["set_topic_permissions", "guest", "amq.topic", but(FORBIDDEN_WRITE), but(FORBIDDEN_READ)]
    return ["env", *_rabbitmq_environment(place), "/usr/lib/rabbitmq/bin/rabbitmqctl", *rule]


def _nats(place: Place) -> list[str]:
    conf = place.write(
        "nats.conf",
        f"""
        server_name: barn
        listen: 127.0.0.1:{place.port + 20_000}
        max_payload: {LIMIT_BYTES}
        jetstream {{ store_dir: "{place.inside}/jetstream" }}
        mqtt {{ listen: 127.0.0.1:{place.port} }}
        authorization {{ users: [ {{ user: barn, password: barn, permissions: {{
            publish: {{ deny: ["{FORBIDDEN_WRITE.replace("/", ".")}"] }}
            subscribe: {{ deny: ["/.a.tank.>"] }} }} }} ] }}
        no_auth_user: barn
        """,
    )
    return ["nats-server", "-c", conf]


def _ejabberd(place: Place) -> list[str]:
    place.write(
        "ejabberd.yml",
        f"""
        hosts: [localhost]
        loglevel: info
        auth_method: [anonymous]
        anonymous_protocol: login_anon
        allow_multiple_connections: true
        listen:
          - {{port: {place.port}, ip: "127.0.0.1", module: mod_mqtt, max_payload_size: {LIMIT_BYTES}}}
        acl:
          everybody: {{user_regexp: ""}}
        access_rules:
          anybody: [{{allow: all}}]
        modules:
          mod_mqtt:
            access_publish:
              "/a/pump/#": anybody
              "gatewayd/barn/status": anybody
              "gatewayd/barn/gateway": anybody
              "gatewayd/barn/marker": anybody
              "gatewayd/barn/devices/pump-1": anybody
            access_subscribe:
              "/a/pump/#": anybody
              "gatewayd/#": anybody
        """,
    )
    place.write("ejabberdctl.cfg", "")
    erl = f"""
        -kernel inet_dist_listen_min {place.port + 20_000} inet_dist_listen_max {place.port + 20_000}
        -kernel inet_dist_use_interface {{127,0,0,1}} -noinput -noshell -sname e{place.port}@localhost
        -mnesia dir '"{place.inside}/database"' -s ejabberd
    """
    (place.outside / "database").mkdir()
    start = place.write(
        "start",
        f"""
        export EJABBERD_CONFIG_PATH={place.inside}/ejabberd.yml EJABBERD_LOG_PATH={place.inside}/ejabberd.log
        export HOME={place.inside} ERL_EPMD_PORT={place.port + 21_000} ERL_EPMD_ADDRESS=127.0.0.1
        export ERL_LIBS=$(dirname "$(find /usr/lib -maxdepth 3 -type d -name 'ejabberd-*' | head -n 1)")
        exec erl {" ".join(erl.split())}
        """,
    )
    return ["sh", start]


def _aedes(place: Place) -> list[str]:
    script = place.write(
        "broker.mjs",
        f"""
        import net from "node:net";
        import {{Aedes}} from "{NPM}/node_modules/aedes/aedes.js";
        const broker = await Aedes.createBroker({{
          authorizeSubscribe: (client, sub, done) =>
            done(null, sub.topic === "{FORBIDDEN_READ}" ? null : sub),
          authorizePublish: (client, packet, done) =>
            done(packet.topic === "{FORBIDDEN_WRITE}" ? new Error("forbidden") : null),
        }});
        net.createServer(broker.handle).listen({place.port}, "127.0.0.1");
        """,
    )
    return ["node", script]


def _amqtt(place: Place) -> list[str]:
    conf = place.write(
        "amqtt.yaml",
        f"""
        listeners: {{default: {{type: tcp, bind: "127.0.0.1:{place.port}"}}}}
        plugins:
          amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}
          amqtt.plugins.topic_checking.TopicAccessControlListPlugin:
            publish_acl: {{anonymous: ["/a/pump/#", "gatewayd/barn/status", "gatewayd/barn/gateway",
              "gatewayd/barn/marker", "gatewayd/barn/devices/pump-1"]}}
            acl: {{anonymous: ["/a/pump/#", "gatewayd/#"]}}
        """,
    )
    return [str(VENV / "bin" / "amqtt"), "-c", conf]


def _rumqttd(place: Place) -> list[str]:
    program = place.write(
        "broker.py",
        f"""
        import time
        from iotcore import Broker
        broker = Broker(port={place.port}, listen="127.0.0.1", max_payload_size={LIMIT_BYTES})
        broker.start()
        while broker.is_running:
            time.sleep(0.2)
        """,
    )
    return [str(VENV / "bin" / "python"), program]


KINDS = [
    Kind("mosquitto", _debian(DEBIAN_12, "mosquitto"), _mosquitto, DEBIAN_12),
    Kind("mosquitto", _debian(DEBIAN_13, "mosquitto"), _mosquitto, DEBIAN_13),
    Kind(
        "RabbitMQ",
        _debian(DEBIAN_12, "rabbitmq-server"),
        _rabbitmq_3,
        DEBIAN_12,
        ready=_rabbitmq_rules,
        has_limit=False,
    ),
    Kind("RabbitMQ", _debian(DEBIAN_13, "rabbitmq-server"), _rabbitmq, DEBIAN_13, ready=_rabbitmq_rules),
    Kind("NATS", _debian(DEBIAN_13, "nats-server"), _nats, DEBIAN_13),
    Kind("ejabberd", _debian(DEBIAN_13, "ejabberd"), _ejabberd, DEBIAN_13, username="barn@localhost"),
    Kind("aedes", _aedes_version, _aedes, has_limit=False),
    Kind("amqtt", _pypi("amqtt"), _amqtt, has_limit=False),
    Kind("rumqttd (iotcore)", _pypi("iotcore"), _rumqttd, has_rules=False),
]
