"""A real Home Assistant in the Debian tree that `.ci/home-assistant` made, as a person sets it up, by REST.

It has MQTT and those integrations that it cannot do without, listens on loopback, and installs nothing.
"""

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from lab.brokers import Mosquitto, free_port
from lab.tree import ROOT

TREE = ROOT / "build" / "home-assistant" / "tree"
HASS = "/opt/home-assistant/bin/hass"
# Far beyond what anything here takes on a busy machine; what runs into it is broken.
DEADLINE_S = 120.0
START_S = 300.0
PERSON, PASSWORD = "alice", "correct horse"
# Its other steps ask where the house is and look for devices around it, which means the network.
_ONBOARDED = {
    "version": 4,
    "minor_version": 1,
    "key": "onboarding",
    "data": {"done": ["core_config", "analytics", "integration"]},
}
_CONFIGURATION = """
homeassistant:
  name: Barn
  unit_system: metric
  time_zone: UTC
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
frontend:
"""


class AnswerError(Exception):
    """Home Assistant said no; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class HomeAssistant:
    """Its process, and what a person with a browser does; its files survive `stop` and `start`."""

    def __init__(self, broker: Mosquitto) -> None:
        self.broker = broker
        self.port = free_port()
        self.token = ""
        self._inside = f"/srv/house-{self.port}"
        self._outside = TREE / self._inside[1:]
        self._process: subprocess.Popen[bytes] | None = None
        shutil.rmtree(self._outside, ignore_errors=True)
        (self._outside / ".storage").mkdir(parents=True)
        (self._outside / ".storage" / "onboarding").write_text(json.dumps(_ONBOARDED))
        (self._outside / "configuration.yaml").write_text(_CONFIGURATION.format(port=self.port))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- its process

    def start(self) -> None:
        """Start it, and wait until it has set up what it has."""
        command = [str(ROOT / ".ci" / "inside"), "--network", str(TREE), HASS, "--config", self._inside]
        with (self._outside / "output").open("ab") as output:
            self._process = subprocess.Popen([*command, "--skip-pip"], stdout=output, stderr=output)
        self.until(self._is_up, "Home Assistant has started", START_S)

    def stop(self) -> None:
        """End it as a machine that is switched off does."""
        if self._process is None:
            return
        if self._process.poll() is None:
            pid = self._process.pid
            # What we started waits for a process in another namespace, and lets no signal through.
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and with it goes the other one
            self._process.wait(DEADLINE_S)
        self._process = None

    def clean(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._outside, ignore_errors=True)

    def log(self) -> str:
        return (self._outside / "output").read_text(errors="replace")

    # -- what a person does once

    def set_up(self) -> None:
        """Make a user and connect it with the broker."""
        client = {"client_id": f"{self.address}/"}
        user = {"name": "Alice", "username": PERSON, "password": PASSWORD, "language": "en"}
        code = self.post("/api/onboarding/users", client | user)["auth_code"]
        grant = urlencode(client | {"grant_type": "authorization_code", "code": code})
        self.token = self._ask("POST", "/auth/token", grant, "application/x-www-form-urlencoded")[
            "access_token"
        ]
        self.token = self.command("auth/long_lived_access_token", client_name="suite", lifespan=1)
        flows = "/api/config/config_entries/flow"
        flow = self.post(flows, {"handler": "mqtt"})
        made = self.post(f"{flows}/{flow['flow_id']}", {"broker": "127.0.0.1", "port": self.broker.port})
        assert made["type"] == "create_entry", made

    # -- what is shown

    def shown(self, entity: str) -> dict[str, Any] | None:
        """Return an entity's state with its attributes; None: there is no such entity."""
        try:
            found: dict[str, Any] = self._ask("GET", f"/api/states/{entity}")
        except AnswerError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise
        return found

    def state(self, entity: str) -> str | None:
        found = self.shown(entity)
        return None if found is None else found["state"]

    def attributes(self, entity: str) -> dict[str, Any]:
        found = self.shown(entity)
        return {} if found is None else found["attributes"]

    def states(self, part: str) -> dict[str, str]:
        """Return the state of each entity whose id has this part."""
        return {
            one["entity_id"]: one["state"]
            for one in self._ask("GET", "/api/states")
            if part in one["entity_id"]
        }

    def registered(self, part: str) -> set[str]:
        """Return the identifiers of devices and entities that it knows, also of those that are away."""
        devices = self.command("config/device_registry/list")
        entities = self.command("config/entity_registry/list")
        known = [pair[1] for one in devices for pair in one["identifiers"]]
        return {one for one in [*known, *(one["unique_id"] for one in entities)] if part in one}

    def device(self, identifier: str) -> dict[str, Any]:
        """Return what it knows of a device."""
        for one in self.command("config/device_registry/list"):
            if ["mqtt", identifier] in one["identifiers"]:
                found: dict[str, Any] = one
                return found
        raise AssertionError(f"there is no device {identifier}")

    def install(self, entity: str) -> None:
        """Press the button."""
        self.post("/api/services/update/install", {"entity_id": entity})

    def delete(self, identifier: str) -> None:
        """Choose Delete on a device's page."""
        device = self.device(identifier)
        (entry,) = device["config_entries"]
        self.command(
            "config/device_registry/remove_config_entry", device_id=device["id"], config_entry_id=entry
        )

    def until(self, reached: Callable[[], object], what: str, limit_s: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + limit_s
        while not reached():
            assert self._process is None or self._process.poll() is None, f"it ended: {self.log()[-3000:]}"
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self._everything()}"
            time.sleep(0.1)

    # -- how it is asked

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json.dumps(body), "application/json")

    def command(self, kind: str, **more: Any) -> Any:
        """Ask what only its websocket answers."""
        return asyncio.run(self._command({"id": 1, "type": kind} | more))

    async def _command(self, command: dict[str, Any]) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/api/websocket", max_msg_size=0) as socket,
        ):
            await socket.receive_json()
            await socket.send_json({"type": "auth", "access_token": self.token})
            await socket.receive_json()
            await socket.send_json(command)
            answer = await socket.receive_json()
        assert answer["success"], answer
        return answer["result"]

    def _ask(self, method: str, path: str, body: str | None = None, kind: str = "") -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body, headers | ({"Content-Type": kind} if kind else {}))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise AnswerError(answer.status, text)
        return json.loads(text)

    def _is_up(self) -> bool:
        try:
            if not self.token:
                return bool(self._ask("GET", "/api/onboarding"))
            return bool(self._ask("GET", "/api/config")["state"] == "RUNNING")
        except (OSError, http.client.HTTPException, AnswerError):
            return False

    def _everything(self) -> str:
        try:
            states = "\n".join(map(str, self._ask("GET", "/api/states")))
        except (OSError, http.client.HTTPException, AnswerError) as error:
            states = repr(error)
        return f"{states}\n{self.log()[-3000:]}"


@contextmanager
def a_house(folder: Path) -> Iterator[HomeAssistant]:
    """Start it with a broker, set up. Fails with a word where it is not installed."""
    assert (TREE / "installed").exists(), f"{TREE} is not made: `make test-ha` does, as root"
    with Mosquitto(folder / "mosquitto") as broker:
        home = HomeAssistant(broker)
        try:
            home.start()
            home.set_up()
            yield home
        finally:
            home.stop()
            home.clean()
