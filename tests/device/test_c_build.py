"""The receiver in C: its size, its dependencies, its own tests, with sanitizers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEVICE = Path(__file__).parents[2] / "device"
LIBC = {"memcmp", "memcpy", "memmove", "memset", "strlen"}
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]


def make(*targets: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", "-C", DEVICE, *targets], capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize("target", ["test", "asan-test"])
def test_random_frames_and_updates(target: str) -> None:
    done = make(target, "FRAMES=20000")
    assert done.returncode == 0, done.stderr
    assert "sound" in done.stdout


def test_it_needs_nothing_but_five_functions(tmp_path: Path) -> None:
    for level in ("-O0", "-Os", "-O3"):
        made = tmp_path / "rcp.o"
        subprocess.run(
            ["cc", *STRICT, "-fno-stack-protector", level, "-c", "-o", made, DEVICE / "rcp.c"], check=True
        )
        wanted = subprocess.run(["nm", "-u", made], capture_output=True, text=True, check=True).stdout.split()
        assert set(wanted) - {"U", "_GLOBAL_OFFSET_TABLE_"} <= LIBC


def test_the_header_is_good_for_cplusplus(tmp_path: Path) -> None:
    source = tmp_path / "port.cc"
    source.write_text(
        f'#include "{DEVICE}/rcp.h"\nbool f(rcp_t *r, const rcp_port_t *p) {{ return rcp_init(r, p); }}\n'
    )
    subprocess.run(
        ["c++", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c", "-o", tmp_path / "o", source], check=True
    )


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
    assert re.search(r"stack +rcp_poll [1-9]\d*, rcp_init [1-9]\d*", done.stdout)


def test_without_the_compiler_size_says_what_to_install() -> None:
    done = make("size", "ARM=no-such-compiler-")
    assert done.returncode != 0
    assert "no-such-compiler-gcc is not installed" in done.stderr


def test_the_example_in_the_porting_guide_compiles(tmp_path: Path) -> None:
    (example,) = re.findall(r"```c\n(.*?)```", (DEVICE / "README.md").read_text(), flags=re.DOTALL)
    source = tmp_path / "main.c"
    source.write_text(example)
    subprocess.run(["cc", *STRICT, f"-I{DEVICE}", "-c", "-o", tmp_path / "main.o", source], check=True)
