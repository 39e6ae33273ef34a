"""The swap bootloader of the port to a micro:bit, on this host, with power cut at each operation on flash."""

import subprocess
from pathlib import Path

import pytest
from lab.tree import ROOT

PORTS = ROOT / "device" / "ports"
COMMON = PORTS / "common"
INCLUDES = ("-I", str(COMMON), "-I", str(PORTS / "microbit"))
STRICT = (
    "-std=c11",
    "-D_DEFAULT_SOURCE",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("swap") / "swap_test"
    sources = [str(COMMON / "swap_test.c"), str(COMMON / "swap.c")]
    subprocess.run(["cc", *STRICT, *INCLUDES, "-o", str(program), *sources], check=True)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_power_cut_anywhere_in_a_swap_or_a_request_breaks_nothing(program: Path, seed: int) -> None:
    subprocess.run([program, str(seed)], check=True)
