"""The daemon itself, started on a state of the disk."""

import socket
from pathlib import Path
from typing import Any

import yaml

from suites.sweep.forked import Daemon

READY = "gatewayd is ready"


def starts(folder: Path, state_dir: Path) -> list[str]:
    """Start it, without a broker, and kill it once it is ready; return what is wrong."""
    config, log = folder / "config.yaml", folder / "gatewayd.log"
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        settings = {
            "gateway": {"id": "cut", "state_dir": str(state_dir), "control_socket": str(folder / "sock")},
            "mqtt": {"host": "127.0.0.1", "port": nobody.getsockname()[1]},
            "devices": [
                {"name": app, "app_id": app, "version": "4.3.1", "link": {"uart": str(folder / app)}}
                | ({"install": "manual"})
                for app in ("pump", "tag", "fan")
            ]
            + [_sensor(folder)],
        }
        config.write_text(yaml.safe_dump(settings))
        daemon = Daemon.start(config, log, None, stopped=False)
        is_ready = daemon.until_log(READY)
        daemon.end()
    return [] if is_ready else [f"the daemon does not start: {log.read_text()[-300:]}"]


def _sensor(folder: Path) -> dict[str, Any]:
    link = {"uart": str(folder / "sensor")}
    return {"name": "sensor", "app_id": "sensor", "version": "4.3.1", "protocol": "smp", "link": link}
