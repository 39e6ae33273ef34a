"""`make test-dist`: the forms that vendors take the receiver in, each built by the tools of its world."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from suites.forms.builds import FORMS, Form
from suites.forms.work import BuildError, Work


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-dist", description=__doc__)
    parser.add_argument("--only", action="append", choices=[_name(form) for form in FORMS])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-dist-"))
    failed = []
    for form in FORMS:
        name = _name(form)
        if options.only and name not in options.only:
            continue
        (folder / name).mkdir()
        begun = time.monotonic()
        try:
            what = form(Work(folder / name))
        except (AssertionError, BuildError, TimeoutError) as error:
            failed.append(name)
            what = f"FAILED: {error}"
        click.echo(f"{name:12} {time.monotonic() - begun:5.1f} s  {what}")
    if failed:
        click.echo(f"{len(failed)} forms failed: {', '.join(failed)}; everything is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _name(form: Form) -> str:
    return form.__name__.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
