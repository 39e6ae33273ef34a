"""What a first port to a chip stumbled over, asked of the receiver in C in small programs."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DEVICE = Path(__file__).parents[2] / "device"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
BUILD_S = 120

# A port that can be used, to take something away from.
PORT = """
#include <stdio.h>
#include <string.h>
#include "rcp.h"
#include "rcp_sha256.h"
static uint8_t cells[16384], frame[RCP_FRAME_BUFFER(1034)], unit[8], ring[2048];
static bool fread_(void *c, uint32_t a, uint8_t *to, uint32_t n)
{ (void)c; memcpy(to, cells + a, n); return true; }
static bool fwrite_(void *c, uint32_t a, const uint8_t *from, uint32_t n)
{ (void)c; memcpy(cells + a, from, n); return true; }
static bool ferase_(void *c, uint32_t a) { (void)c; memset(cells + a, 0xFF, 1024); return true; }
static uint32_t now_(void *c) { (void)c; return 0; }
static uint32_t sent_bytes, sends;
static void send_(void *c, const uint8_t *d, uint32_t n) { (void)c; (void)d; sent_bytes += n; sends++; }
static bool yes_(void *c) { (void)c; return true; }
static void nothing_(void *c) { (void)c; }
static void add_(void *c, const uint8_t *d, uint32_t n) { (void)c; (void)d; (void)n; }
static void end_(void *c, uint8_t *d) { (void)c; memset(d, 0, 32); }
static bool activate_(void *c, const uint8_t *s, uint32_t n, uint16_t t)
{ (void)c; (void)s; (void)n; (void)t; return true; }
static rcp_t rcp;
static rcp_boot_t boot;
static rcp_port_t port = {
    .frame = frame, .unit = unit, .ring = ring, .ring_size = sizeof ring, .max_frame = 1034, .write_unit = 8,
    .window = 1024, .erase_block = 1024, .slot = 4096, .slot_size = 8192, .journal = 0, .journal_area = 1024,
    .erase_ahead = 1024, .flash_read = fread_, .flash_write = fwrite_, .flash_erase = ferase_, .now_ms = now_,
    .send = send_, .sent = yes_, .sha256_begin = nothing_, .sha256_add = add_, .sha256_end = end_,
    .activate = activate_, .confirm = yes_, .restart = nothing_, .app_id = "a",
};
"""


def run(folder: Path, body: str, *options: str) -> list[str]:
    """Compile a program around the port with the receiver, run it under the sanitizers, return its lines."""
    source, program = folder / "main.c", folder / "main"
    source.write_text(PORT + "int main(void)\n{\n" + body + "\nreturn 0;\n}\n")
    sanitizers = [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-Wno-unused-function",
        "-Wno-unused-variable",
    ]
    files = [source, DEVICE / "rcp.c", DEVICE / "rcp_sha256.c"]
    subprocess.run(
        ["cc", *STRICT, "-g", *sanitizers, f"-I{DEVICE}", *options, "-o", program, *files],
        check=True,
        timeout=BUILD_S,
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("ble", [0, 1])
def test_bytes_before_init_and_after_one_that_failed_are_dropped(tmp_path: Path, ble: int) -> None:
    packet = 'printf("%d ", rcp_rx_packet(&rcp, unit, 5));' * ble
    ask = f'printf("%d %d ", rcp_rx_byte(&rcp, 7), rcp_has_work(&rcp)); rcp_poll(&rcp); {packet}'
    fail = "port.window = 0; rcp_init(&rcp, &port, &boot);"
    work = "port.window = 1024; rcp_init(&rcp, &port, &boot); rcp_poll(&rcp);"
    lines = run(tmp_path, ask + fail + ask + work + 'printf("%d", rcp_rx_byte(&rcp, 7));', f"-DRCP_BLE={ble}")
    assert lines == [*(["0", "1"] + ["0"] * ble) * 2, "1"]


def reasons() -> list[str]:
    enum = re.search(
        r"typedef enum \{\s*(RCP_OK.*?)\} rcp_reason_t;", (DEVICE / "rcp.h").read_text(), re.DOTALL
    )
    assert enum is not None
    return re.findall(r"^ *(RCP_\w+)", enum[1], re.MULTILINE)


NEEDED = (
    *("frame", "unit", "ring", "flash_read", "flash_write", "flash_erase", "now_ms", "send", "sent"),
    *("sha256_begin", "sha256_add", "sha256_end", "activate", "confirm", "restart", "app_id"),
)
LONG = '"' + "x" * 65 + '"'
# What is changed in the port above -> the reason.
CASES = {
    **{f"port.{field} = NULL": "RCP_MISSING" for field in NEEDED},
    "port.write_unit = 0": "RCP_BAD_WRITE_UNIT",
    "port.write_unit = 12": "RCP_BAD_WRITE_UNIT",
    "port.write_unit = 2048": "RCP_BAD_WRITE_UNIT",
    "port.write_unit = port.erase_block = 65536": "RCP_BAD_WRITE_UNIT",
    "port.erase_block = 1000": "RCP_BAD_ERASE_BLOCK",
    "port.slot_size = 0": "RCP_BAD_SLOT",
    "port.slot_size = 8000": "RCP_BAD_SLOT",
    "port.slot = 4000": "RCP_BAD_SLOT",
    "port.slot = 0xFFFFFC00u": "RCP_BAD_SLOT",
    "port.journal_area = 0": "RCP_BAD_JOURNAL",
    "port.journal_area = 128": "RCP_BAD_JOURNAL",
    "port.journal_area = 0x80000000u": "RCP_BAD_JOURNAL",
    "port.journal = 512": "RCP_BAD_JOURNAL",
    "port.journal = 4096": "RCP_BAD_JOURNAL",
    "port.journal = 3072": "RCP_BAD_JOURNAL",
    "port.journal = 11264": "RCP_BAD_JOURNAL",
    "port.journal = 0xFFFFFC00u": "RCP_BAD_JOURNAL",
    "port.max_frame = 137": "RCP_BAD_MAX_FRAME",
    "port.max_frame = 65536": "RCP_BAD_MAX_FRAME",
    "port.ring_size = 138": "RCP_BAD_RING",
    "port.ring_size = 0": "RCP_BAD_RING",
    "port.window = 1023": "RCP_BAD_WINDOW",
    "port.erase_ahead = 512": "RCP_BAD_ERASE_AHEAD",
    "port.erase_ahead = 0xFFFFFFFFu": "RCP_BAD_ERASE_AHEAD",
    f"port.app_id = {LONG}": "RCP_BAD_TEXT",
    'port.app_id = ""': "RCP_BAD_TEXT",
    f"port.hardware_id = {LONG}": "RCP_BAD_TEXT",
    f"port.version = {LONG}": "RCP_BAD_TEXT",
    'port.device_id = "' + "x" * 33 + '"': "RCP_BAD_TEXT",
    "port.features = RCP_FEATURE_SET_BAUD": "RCP_BAD_BAUD",
}
GOOD = ("port.slot = 0xFFFFE000u", "port.journal = 2048", "port.journal = 12288", 'port.version = "1.0.0"')


def test_everything_that_could_corrupt_memory_has_its_reason(tmp_path: Path) -> None:
    cases = {**CASES, **dict.fromkeys(GOOD, "RCP_OK")}
    body = "const rcp_port_t good = port;\n" + "".join(
        f'port = good; {change}; printf("%d\\n", rcp_check(&port));\n' for change in cases
    )
    found = [reasons()[int(line)] for line in run(tmp_path, body)]
    assert dict(zip(cases, found, strict=True)) == cases
    assert set(CASES.values()) | {"RCP_OK"} == set(reasons())


def test_the_ring_s_buffer_is_never_left(tmp_path: Path) -> None:
    """`ring_size` is sizeof ring, and the sanitizer watches the edge."""
    body = """
    static uint8_t small[140];
    uint32_t taken = 0;
    port.ring = small;
    port.ring_size = sizeof small;
    rcp_init(&rcp, &port, &boot);
    for (int i = 0; i < 300; i++) { /* round and round */
        rcp_rx_byte(&rcp, 9);
        rcp_poll(&rcp);
    }
    while (rcp_rx_byte(&rcp, 9))
        taken++;
    printf("%u", taken);
    """
    assert run(tmp_path, body) == ["139"]


@pytest.mark.parametrize("option", ["RCP_BLE", "RCP_EVENTS", "RCP_BLOCK_SIZES"])
def test_an_option_that_is_on_in_one_file_only_does_not_link(tmp_path: Path, option: str) -> None:
    main = tmp_path / "main.c"
    main.write_text(PORT + "int main(void) { return (int)rcp_init(&rcp, &port, &boot); }\n")
    receiver = tmp_path / "rcp.o"
    subprocess.run(
        ["cc", "-std=c99", f"-D{option}=1", "-c", "-o", receiver, DEVICE / "rcp.c"],
        check=True,
        timeout=BUILD_S,
    )
    files = [main, receiver, DEVICE / "rcp_sha256.c"]
    command: list[str | Path] = ["cc", "-std=c99", "-w", f"-I{DEVICE}", "-o", tmp_path / "main", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode != 0
    assert "rcp_start_ble0_events0_blocks0" in done.stderr


def test_a_processor_of_16_bits_is_refused_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "limits.h").write_text("#define UINT_MAX 0xFFFFu\n#define CHAR_BIT 8\n")
    command: list[str | Path] = [
        "cc",
        "-std=c99",
        f"-I{tmp_path}",
        "-c",
        "-o",
        tmp_path / "o",
        DEVICE / "rcp.c",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode != 0
    assert "RCP needs an int of 32 bits" in done.stderr


def test_whether_there_is_work_is_told_without_a_race(tmp_path: Path) -> None:
    """A byte between rcp_poll() and the sleep: asked with interrupts disabled, it is still there."""
    body = """
    rcp_init(&rcp, &port, &boot);
    do
        rcp_poll(&rcp);
    while (rcp_has_work(&rcp));
    printf("%d ", rcp_has_work(&rcp));
    rcp_rx_byte(&rcp, 0);
    printf("%d ", rcp_has_work(&rcp));
    rcp_poll(&rcp);
    printf("%d", rcp_has_work(&rcp));
    """
    assert run(tmp_path, body) == ["0", "1", "0"]


def test_sha256_is_good_for_cplusplus(tmp_path: Path) -> None:
    main, made = tmp_path / "main.cc", tmp_path / "sha256.o"
    main.write_text(
        f'#include "{DEVICE}/rcp_sha256.h"\n'
        "int main() { rcp_sha256_t s; rcp_sha256_begin(&s); return 0; }\n"
    )
    subprocess.run(["cc", "-std=c99", "-c", "-o", made, DEVICE / "rcp_sha256.c"], check=True, timeout=BUILD_S)
    subprocess.run(
        ["c++", "-Wall", "-Werror", "-o", tmp_path / "main", main, made], check=True, timeout=BUILD_S
    )


def test_the_header_s_version_is_the_project_s() -> None:
    numbers = re.findall(r"#define RCP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", (DEVICE / "rcp.h").read_text())
    version = re.search(r'__version__ = "([\d.]+)', (DEVICE.parent / "gatewayd" / "__init__.py").read_text())
    assert version is not None
    assert ".".join(numbers) == version[1]


def test_names_begin_with_rcp(tmp_path: Path) -> None:
    for name in ("rcp", "rcp_sha256"):
        made = tmp_path / f"{name}.o"
        options = ["-std=c99", "-DRCP_BLE=1", "-DRCP_BLOCK_SIZES=1"]
        subprocess.run(["cc", *options, "-c", "-o", made, DEVICE / f"{name}.c"], check=True, timeout=BUILD_S)
        listed = subprocess.run(
            ["nm", "-g", "--defined-only", made], capture_output=True, text=True, check=True
        )
        assert all(line.split()[2].startswith("rcp_") for line in listed.stdout.splitlines())


def test_the_cycles_stay_below_their_limits() -> None:
    done = subprocess.run(
        ["make", "-s", "-C", DEVICE, "cycles"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
