"""The whole job at one broker, step by step; each step says in a few words what was seen."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from lab.farm import Gateway, VirtualDevice, image_of

from suites.brokers.servers import FORBIDDEN_READ, FORBIDDEN_WRITE, LIMIT_BYTES, Server

TOPIC = "/a/pump/u/4.3"
# In place of a minute: brokers answer at once here.
QUICK = "import gatewayd.mqtt.retained_check as check; check.SETTLE_S = 1.0; check.ASK_AGAIN_S = (2.0, 3.0)"
# For one thing that should happen; what takes longer is reported as not seen.
STEP_S = 30.0
# An absence: longer than the check takes, and asking for what is retained.
QUIET_S = 4.0


# What a broker may do where others say no.
IGNORED = "silently ignored"


class NotSeenError(Exception):
    """What should have happened did not."""


@dataclass
class Row:
    """What was seen at one broker, by step."""

    broker: str
    version: str
    cells: dict[str, str] = field(default_factory=dict)


class Trial:
    """A gateway with one device at a broker; the control socket says how things stand, not the broker."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.gateway = Gateway(folder, server)  # type: ignore[arg-type]  # of a broker it wants the port
        self.gateway.preset = QUICK
        self.gateway.config["keys"]["k"]["allow_shared_key"] = True
        self.patch = 1
        if server.kind.username:
            password = folder / "password"
            password.write_text("x")
            password.chmod(0o600)
            self.gateway.config["mqtt"] |= {"username": server.kind.username, "password_file": "password"}
        self.device = VirtualDevice(folder, "pump-1").start()
        self.gateway.config["devices"] = [self.device.config()]

    async def steps(self) -> AsyncIterator[tuple[str, str]]:
        """Yield each step's name and what was seen."""
        steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("MQTT", self.connects),
            ("retained release installed", self.gets_what_is_retained),
            ("live release installed", self.gets_what_is_published),
            ("withdrawn while connected", self.hears_a_withdrawal),
            ("withdrawn at QoS 1 while off", lambda: self.withdrawn_while_off(qos=1)),
            ("withdrawn at QoS 0 while off", lambda: self.withdrawn_while_off(qos=0)),
            ("after its restart", self.outlives_a_restart),
            ("message too large", self.says_too_large),
            ("forbidden topic", self.leaves_out_what_is_forbidden),
        ]
        for name, step in steps:
            try:
                yield name, await step()
            except (NotSeenError, subprocess.SubprocessError, OSError, aiomqtt.MqttError) as error:
                yield name, f"**no**: {_short(error)}"

    def end(self) -> None:
        """Leave nothing behind."""
        if self.gateway.process is not None and self.gateway.process.poll() is None:
            self.gateway.process.kill()
            self.gateway.process.wait(10)
        self.device.stop()

    # -- steps

    async def connects(self) -> str:
        """Publish first, then start: what comes is retained."""
        self._publish()
        self.gateway.start()
        await self._until(lambda: self._log("connected to the broker"), "no connection")
        return str(self._log("connected to the broker")[-1]["mqtt"])

    async def gets_what_is_retained(self) -> str:
        await self._installed()
        dots = self._log("this broker takes a dot for a level")
        return f"yes; the topic arrives as `{dots[0]['arrives_as']}`" if dots else "yes"

    async def gets_what_is_published(self) -> str:
        self._publish()
        await self._installed()
        return "yes"

    async def hears_a_withdrawal(self) -> str:
        count = len(self._log("release withdrawn"))
        self._ctl("withdraw", "--config", "config.yaml", "--app", "pump", "--line", "4.3")
        await self._until(lambda: len(self._log("release withdrawn")) > count, "nothing came")
        return "heard"

    async def withdrawn_while_off(self, *, qos: int) -> str:
        self._publish()
        await self._installed()
        await asyncio.sleep(QUIET_S)  # for the marker
        self.gateway.stop()
        withdrawn = len(self._log("release withdrawn"))
        if qos:
            self._ctl("withdraw", "--config", "config.yaml", "--app", "pump", "--line", "4.3")
        else:
            async with self._client() as client:
                await client.publish(TOPIC, b"", qos=0, retain=True)
        suspended = "suspended: the broker no longer has these messages"
        before = len(self._log(suspended))
        self.gateway.start()
        try:
            await self._until(
                lambda: len(self._log("release withdrawn")) > withdrawn or len(self._log(suspended)) > before,
                "",
            )
        except NotSeenError:
            return "not noticed"
        return "heard" if len(self._log("release withdrawn")) > withdrawn else "suspended"

    async def outlives_a_restart(self) -> str:
        self._publish()
        await self._installed()
        connections = len(self._log("connected to the broker"))
        await asyncio.to_thread(self.server.stop)
        self.server.start()
        await self._until(
            lambda: len(self._log("connected to the broker")) > connections, "no connection after it"
        )
        session = self._log("connected to the broker")[-1]["session"]
        retained = "retained messages kept" if await self._retained() else "retained messages lost"
        self._publish()
        await self._installed()
        return f"goes on; session {'kept' if session == 'kept' else 'lost'}, {retained}"

    async def says_too_large(self) -> str:
        if not self.server.kind.has_limit:
            return "not limited"
        container = self.gateway.pack(image_of(99, 2 * LIMIT_BYTES))
        ran = self.gateway.ctl(
            *("publish", "--force", "--config", "config.yaml", "--app", "pump", "--version", "4.3.99"),
            container,
            check=False,
        )
        if ran.returncode == 0:
            self.patch = 99
            return "taken"
        names_it = "too large" in ran.stderr or "size limit" in ran.stderr
        how = "told before it is sent" if "packets of" in ran.stderr else "the connection is closed"
        return f"refused; {how if names_it else _short(ran.stderr)}"

    async def leaves_out_what_is_forbidden(self) -> str:
        if not self.server.kind.has_rules:
            return "it has no rules"
        tank = self.device.config(name="tank-1", app_id="tank", version="1.0.0", link={"uart": "/dev/none"})
        self.gateway.config["devices"].append(tank)
        self.gateway.stop()
        self.gateway.start()
        started = len(self._log("left out what the broker closes the connection over; the rest goes on"))
        self._publish()
        await self._installed()
        reading = await self._settled_on(self._reading)
        writing = await self._settled_on(self._writing)
        closes = self._log("left out what the broker closes the connection over; the rest goes on")[started:]
        if reading == IGNORED and await self._reads(FORBIDDEN_READ):
            reading = "**allowed**: the rule has no effect"
        if writing == IGNORED and await self._retained(FORBIDDEN_WRITE):
            writing = "**allowed**: the rule has no effect"
        seen = [f"reading {reading}", f"writing {writing}"]
        if closes:
            self._publish()
            await self._installed()
        return f"{', '.join(seen)}; the other device is updated"

    def _reading(self) -> str | None:
        return self._how(FORBIDDEN_READ, "the broker refuses a subscription")

    def _writing(self) -> str | None:
        found = self._how(FORBIDDEN_WRITE, "")
        if found is None and [
            one for one in self._log("the broker refuses a report") if one["device"] == "tank-1"
        ]:
            return "refused"
        return found

    def _how(self, topic: str, refusal: str) -> str | None:
        closed = "left out what the broker closes the connection over; the rest goes on"
        if any(one["topic"] == topic for one in self._log(closed)):
            return "closes, left out"
        if refusal and any(one["topic"] == topic for one in self._log(refusal)):
            return "refused"
        return None

    async def _settled_on(self, look: Callable[[], str | None]) -> str:
        with contextlib.suppress(NotSeenError):
            await self._until(look, "", STEP_S / 2)
        return look() or IGNORED

    # -- tools

    def _publish(self) -> None:
        self.patch += 1
        container = self.gateway.pack(image_of(self.patch, 20_000))
        if not self.gateway.config_file.exists():
            self.gateway.config_file.write_text(json.dumps(self.gateway.config))
        version = f"4.3.{self.patch}"
        config = ("--config", "config.yaml")
        self._ctl("publish", "--force", *config, "--app", "pump", "--version", version, container)

    async def _installed(self) -> None:
        image = image_of(self.patch, 20_000)
        await self._until(lambda: self.device.active == image, f"4.3.{self.patch} was not installed")

    def _ctl(self, *words: object) -> None:
        ran = self.gateway.ctl(*words, check=False)
        if ran.returncode:
            raise NotSeenError(f"{words[0]}: {_short(ran.stderr)}")

    async def _reads(self, topic: str) -> bool:
        """Whether a message on a topic reaches the gateway."""
        async with self._client() as client:
            await client.publish(topic, b"what it may not read", qos=1, retain=False)
        await asyncio.sleep(QUIET_S)
        return any(
            one.get("topic") == topic
            for event in ("release stored", "message refused")
            for one in self._log(event)
        )

    async def _retained(self, topic: str = TOPIC) -> bool:
        async with self._client() as client:
            await client.subscribe(topic, qos=0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    return bool((await anext(aiter(client.messages))).payload)
        return False

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[aiomqtt.Client]:
        username = self.server.kind.username
        password = "x" if username else None
        async with aiomqtt.Client(
            "127.0.0.1", self.server.port, username=username, password=password
        ) as client:
            yield client

    def _log(self, event: str) -> list[dict[str, Any]]:
        return self.gateway.log_events(event) if (self.folder / "gatewayd.log").exists() else []

    async def _until(self, seen: Callable[[], object], what: str, limit_s: float = STEP_S) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not seen():  # noqa: ASYNC110 - what is waited for is in other processes
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise NotSeenError(what) from None


def _short(error: object) -> str:
    text = " ".join(str(error).split()).removeprefix("Error: ")
    return text if len(text) < 160 else f"{text[:160]}…"


async def run(server: Server, row: Row, folder: Path, say: Callable[[str], None]) -> None:
    """Start the broker, do the whole job, and fill the row."""
    server.start()
    try:
        await _until_listening(server)
        await asyncio.to_thread(server.set_up)
        trial = Trial(folder, server)
        try:
            async for name, cell in trial.steps():
                row.cells[name] = cell
                say(f"{row.broker} {row.version}: {name}: {cell}")
        finally:
            trial.end()
    finally:
        server.stop()


async def _until_listening(server: Server) -> None:
    try:
        async with asyncio.timeout(2 * STEP_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    writer.close()
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise NotSeenError(f"it does not listen: {server.output()}") from None
