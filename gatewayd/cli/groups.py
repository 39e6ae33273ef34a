"""Groups of commands that name the nearest command to one that does not exist."""

import difflib
from collections.abc import Iterable

import click

# What people look for under another name.
_CALLED = {
    "list": "devices",
    "ls": "devices",
    "log": "jobs",
    "logs": "jobs",
    "start": "resume",
    "status": "devices",
    "stop": "pause",
    "update": "push",
    "upload": "publish",
    "validate": "check-config",
    "why": "explain",
}


class Group(click.Group):
    """A group of commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises click's UsageError, with the nearest command there is."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name = nearest(args[0], self.list_commands(ctx))
            if name is None or "mean" in error.message:  # later versions of click say it themselves
                raise
            raise click.UsageError(f"{error.message} Did you mean {name}?", ctx) from None


def nearest(word: str, commands: Iterable[str]) -> str | None:
    """Return the command that was meant by `word`, as far as one can tell."""
    commands = list(commands)
    word = word.lower().replace("_", "-")
    starting = [name for name in commands if name.startswith(word)]
    if len(starting) == 1:
        return starting[0]
    if _CALLED.get(word) in commands:
        return _CALLED[word]
    return next(iter(difflib.get_close_matches(word, commands, n=1)), None)
