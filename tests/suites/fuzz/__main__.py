"""`make fuzz`: let a fuzzer loose on everything that reads what others wrote, one target after another.

A finding is written to build/fuzz/. Once repaired it belongs into tests/vectors/fuzz/TARGET/, where
tests/suites/fuzz/test_fuzz.py tries it for ever.
"""

import re
import subprocess
import sys
from pathlib import Path

import click

from suites.fuzz.targets import ROOT, TARGETS, Target

BUILD = ROOT / "build" / "fuzz"


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For each target.")
@click.argument("names", nargs=-1, type=click.Choice(sorted(TARGETS)))
def main(names: tuple[str, ...], seconds: int) -> None:
    """Fuzz the named targets, or all. Ends with 1 when something was found."""
    click.echo(f"{'target':14}{'inputs':>12}{'branches':>10}  ")
    results = [fuzz(TARGETS[name], seconds) for name in names or TARGETS]
    sys.exit(0 if all(results) else 1)


def fuzz(target: Target, seconds: int) -> bool:
    """Run one target in a process of its own; False when it found something."""
    corpus = BUILD / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate([*target.seeds(), *found(target)]):
        (corpus / f"seed-{number}").write_bytes(seed)
    ran = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("run.py"),
            target.name,
            f"-max_total_time={seconds}",
            "-max_len=6000",
            "-timeout=20",
            f"-artifact_prefix={BUILD}/{target.name}-",
            "-print_final_stats=1",
            str(corpus),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = ran.stdout + ran.stderr
    inputs = (re.findall(r"number_of_executed_units: (\d+)", said) or ["?"])[-1]
    branches = (re.findall(r" cov: (\d+)", said) or ["?"])[-1]
    click.echo(f"{target.name:14}{inputs:>12}{branches:>10}  {'' if ran.returncode == 0 else 'FOUND'}")
    if ran.returncode:
        click.echo(said[-4000:])
    return ran.returncode == 0


def found(target: Target) -> list[bytes]:
    return [file.read_bytes() for file in sorted(target.found.glob("*"))]


if __name__ == "__main__":
    main()
