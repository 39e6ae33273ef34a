"""A program for `gatewayctl notify` that writes down what it is told."""

from pathlib import Path

# Its order is that of `Told`.
_NAMES = ("EVENT", "DEVICE", "CODE", "COUNT", "REASON", "NEXT_STEP", "SUMMARY")


class Teller:
    """The program, in a folder. `first`: what its script does before it writes."""

    def __init__(self, folder: Path, first: str = "") -> None:
        self.path = folder / "teller"
        self._told = folder / "told"
        self._text = folder / "text"
        variables = " ".join(f'"$GATEWAYD_{name}"' for name in _NAMES)
        line = r"\t".join(["%s"] * len(_NAMES))
        self.path.write_text(
            f"#!/bin/sh\n{first}\ncat >'{self._text}'\nprintf '{line}\\n' {variables} >>'{self._told}'\n"
        )
        self.path.chmod(0o755)

    def told(self) -> list[tuple[str, ...]]:
        """Return event, device, code of each run."""
        return [tuple(run[name] for name in ("EVENT", "DEVICE", "CODE")) for run in self.runs()]

    def runs(self) -> list[dict[str, str]]:
        """Return the variables of each run."""
        lines = self._told.read_text().splitlines() if self._told.exists() else []
        return [dict(zip(_NAMES, line.split("\t"), strict=True)) for line in lines]

    @property
    def text(self) -> str:
        """What the last run found on its standard input."""
        return self._text.read_text()
