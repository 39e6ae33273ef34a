"""Puts the manual pages into the source distribution, and from it into the wheel.

They are made by the code itself, which needs its dependencies; a build without them (`pip install .` from a
clone) takes the pages that are there, and that is none.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("build", "man")
PAGES = ("gatewayd.8", "gatewayd-web.8", "gatewayctl.1", "gatewayd.yaml.5")


class ManualPages(BuildHookInterface[Any]):
    """See above."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling."""
        if version == "editable":
            return
        root = Path(self.root)
        if _can_make(root):
            _make(root)
        for page in PAGES:
            if (path := root / FOLDER / page).exists():
                if self.target_name == "sdist":
                    build_data["force_include"][str(path)] = str(FOLDER / page)
                else:
                    build_data["shared_data"][str(path)] = f"share/man/man{page[-1]}/{page}"


def _can_make(root: Path) -> bool:
    """Whether the code's dependencies are installed for the Python that builds."""
    return _python(root, "-c", "import gatewayd.cli.manual", check=False).returncode == 0


def _make(root: Path) -> None:
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        (root / FOLDER / page).write_bytes(_python(root, "-m", "gatewayd.cli.manual", page).stdout)


def _python(root: Path, *words: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(  # noqa: S603 - this Python, with words of ours
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, check=check
    )
