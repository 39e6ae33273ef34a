"""`gatewayctl completion`: the script that completes commands, options and devices in a shell."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash: gatewayctl completion bash > /etc/bash_completion.d/gatewayctl
    zsh:  gatewayctl completion zsh > "${fpath[1]}/_gatewayctl"
    fish: gatewayctl completion fish > ~/.config/fish/completions/gatewayctl.fish
    """  # noqa: D301 - click reads the \b
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of click does not support {shell}")
    completion = kind(context.find_root().command, {}, "gatewayctl", "_GATEWAYCTL_COMPLETE")
    click.echo(completion.source())
