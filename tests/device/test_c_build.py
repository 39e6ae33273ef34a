"""The receiver in C: its size, its dependencies, its own tests, with sanitizers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DEVICE = Path(__file__).parents[2] / "device"
LIBC = {"memcmp", "memcpy", "memmove", "memset", "strlen"}
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]


def make(*targets: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", "-C", DEVICE, *targets], capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("target", ["test", "asan-test"])
def test_random_frames_and_updates(target: str) -> None:
    done = make(target, "FRAMES=20000")
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout


@pytest.mark.parametrize("ble", [0, 1])
def test_it_needs_nothing_but_five_functions(tmp_path: Path, ble: int) -> None:
    for level in ("-O0", "-Os", "-O3"):
        made = tmp_path / "rcp.o"
        options = [*STRICT, f"-DRCP_BLE={ble}", "-fno-stack-protector", level]
        subprocess.run(["cc", *options, "-c", "-o", made, DEVICE / "rcp.c"], check=True)
        wanted = subprocess.run(["nm", "-u", made], capture_output=True, text=True, check=True).stdout.split()
        assert set(wanted) - {"U", "_GLOBAL_OFFSET_TABLE_"} <= LIBC


@pytest.mark.parametrize("ble", [0, 1])
def test_the_header_is_good_for_cplusplus(tmp_path: Path, ble: int) -> None:
    source = tmp_path / "port.cc"
    source.write_text(
        f'#include "{DEVICE}/rcp.h"\n'
        "rcp_reason_t f(rcp_t *r, const rcp_port_t *p, const rcp_boot_t *b) { return rcp_init(r, p, b); }\n"
    )
    options = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-DRCP_BLE={ble}"]
    subprocess.run(["c++", *options, "-c", "-o", tmp_path / "o", source], check=True)


def test_at_most_4_kib_of_code_on_a_cortex_m0_or_a_clear_word() -> None:
    done = make("size")
    if shutil.which("arm-none-eabi-gcc") is None:
        assert done.returncode != 0
        assert "apt install gcc-arm-none-eabi" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    found = re.search(r"code +(\d+) bytes", done.stdout)
    assert found is not None
    assert int(found[1]) <= 4096
    with_ble = re.search(r"with BLE +(\d+) bytes", done.stdout)
    assert with_ble is not None
    assert int(found[1]) < int(with_ble[1]) <= 4864
    with_all = re.search(r"everything +(\d+) bytes", done.stdout)
    assert with_all is not None
    assert int(with_all[1]) <= 5120
    assert "checks      0 bytes more where the port is a constant" in done.stdout
    assert "helpers     none" in done.stdout
    assert re.search(r"stack +rcp_poll [1-9]\d*, rcp_init [1-9]\d*", done.stdout)


def test_without_the_compiler_size_says_what_to_install() -> None:
    done = make("size", "ARM=no-such-compiler-")
    assert done.returncode != 0
    assert "no-such-compiler-gcc is not installed" in done.stderr


@pytest.mark.parametrize("ble", [0, 1])
def test_the_example_in_the_porting_guide_compiles(tmp_path: Path, ble: int) -> None:
    (first,), (radio,) = (
        re.findall(r"```c\n(.*?)```", (DEVICE / page).read_text(), flags=re.DOTALL)
        for page in ("README.md", "docs/bluetooth.md")
    )
    source = tmp_path / "main.c"
    source.write_text(first + radio * ble)
    options = [*STRICT, f"-DRCP_BLE={ble}", f"-I{DEVICE}"]
    subprocess.run(["cc", *options, "-c", "-o", tmp_path / "main.o", source], check=True)
