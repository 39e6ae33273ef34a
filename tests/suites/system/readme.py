"""What README.md tells people to type, and to write into their configuration."""

from dataclasses import dataclass

from lab.deb import ROOT


@dataclass(frozen=True)
class Readme:
    """From the package to an updated device: `install`, with `config` in the editor, then `publish`."""

    install: str
    config: str
    publish: str

    @property
    def port(self) -> str:
        """Where its example has the device."""
        return self.config.partition("uart: ")[2].partition(",")[0]


def read() -> Readme:
    """Read it."""
    text = (ROOT / "README.md").read_text()
    return Readme(
        install=_first(text, "Install", "sh"),
        config=_first(text, "Configure", "yaml"),
        publish=_first(text, "Publish firmware", "sh"),
    )


def _first(text: str, section: str, language: str) -> str:
    body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return body.partition(f"```{language}\n")[2].partition("```\n")[0]
