"""One target under atheris, in a process of its own: libFuzzer never returns."""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["gatewayd"]):
    from suites.fuzz.measure import Allowance
    from suites.fuzz.targets import TARGETS

if __name__ == "__main__":
    Allowance.factor = 8
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]].check)
    atheris.Fuzz()
