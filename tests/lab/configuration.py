"""A valid configuration with its keys in a temporary folder, for tests to bend."""

import os
from pathlib import Path
from typing import Any

import yaml

from gatewayd.config import ConfigErrors, Settings, load
from gatewayd.ota.keys import OtaKey

ROOT = Path(__file__).parents[2]
KEY = OtaKey(bytes(range(32)), bytes(range(32, 64)))
PASSWORD = "hunter2-hunter2"  # noqa: S105 - made up


def private_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


class Lab:
    """`settings` loads what `tree` holds; `errors` returns its mistakes as printed, without the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.yaml"
        private_file(folder / "decrypt.key.bin", KEY.decrypt_key)
        private_file(folder / "verify.key.bin", KEY.verify_key, 0o644)
        private_file(folder / "ota.key", KEY.to_file())
        private_file(folder / "password", f"{PASSWORD}\n".encode())
        self.tree: dict[str, Any] = {
            "gateway": {"id": "barn-pi"},
            "mqtt": {"host": "127.0.0.1", "username": "barn", "password_file": "password"},
            "keys": {"pump": {"decrypt_key_file": "decrypt.key.bin", "verify_key_file": "verify.key.bin"}},
            "defaults": {"payload": "advanced", "keys": "pump"},
            "devices": [self.device("pump-1")],
        }

    @staticmethod
    def device(name: str, **values: Any) -> dict[str, Any]:
        return {"name": name, "app_id": "pump", "version": "4.3.1", "link": {"uart": f"/dev/{name}"}} | values

    def settings(self) -> Settings:
        self.file.write_text(yaml.safe_dump(self.tree, sort_keys=False))
        return load(self.file)

    def errors(self) -> list[str]:
        try:
            self.settings()
        except ConfigErrors as error:
            assert error.code == "bad_configuration"  # noqa: PT017 - both ways are right
            return [self.plain(str(mistake)) for mistake in error.mistakes]
        return []

    def warnings(self) -> list[str]:
        return [self.plain(str(warning)) for warning in self.settings().warnings]

    def plain(self, text: str) -> str:
        return text.replace(f"{self.folder}{os.sep}", "")
