"""Each form of the receiver, built as a vendor would. Functions return what to say of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from suites.forms.processes import esp_idf_runs, sming_runs
from suites.forms.work import (
    CORTEX_M4,
    DEVICE,
    DIST,
    ESP32_C3,
    STUBS,
    TOOLS,
    WARNINGS,
    BuildError,
    Work,
    object_of,
)

Form = Callable[[Work], str]

_CONSUMER = """cmake_minimum_required(VERSION 3.13)
project(firmware C)
set(RCP_EVENTS ON)
add_subdirectory({receiver} rcp)
add_executable(firmware main.c)
target_link_libraries(firmware PRIVATE rcp::rcp)
"""
# Without a port the receiver says so; with RCP_EVENTS in one file only this would not link.
_MAIN = """#include <rcp.h>
#include <rcp_sha256.h>
static rcp_t rcp;
static rcp_sha256_t hash;
int main(void)
{
    const rcp_port_t port = {.context = NULL};
    const rcp_boot_t boot = {.boot_id = 1};
    rcp_sha256_begin(&hash);
    rcp_poll(&rcp);
    return rcp_init(&rcp, &port, &boot) == RCP_MISSING ? 0 : 1;
}
"""
_SKETCH = "#include <rcp.h>\nrcp_t rcp;\nvoid setup() {}\nvoid loop() { rcp_poll(&rcp); }\n"


def plain_cmake(work: Work) -> str:
    """The tarball as a subdirectory of somebody's project: run on this machine, linked for a Cortex-M4."""
    source = _consume(work, work.unpack("gatewayd-rcp"))
    nosys = "-DCMAKE_EXE_LINKER_FLAGS=--specs=nosys.specs"
    work.cmake(source, CORTEX_M4, nosys)
    return "cmake, cc (and run), arm-none-eabi-gcc: no stub"


def _consume(work: Work, receiver: Path) -> Path:
    source = work.folder / "firmware"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(_CONSUMER.format(receiver=receiver))
    (source / "main.c").write_text(_MAIN)
    work.run("cmake", "-S", source, "-B", "here")
    work.run("cmake", "--build", "here")
    work.run(work.folder / "here" / "firmware")
    return source


def in_place(work: Work) -> str:
    """No archive: the project's folder as a CMake subdirectory, and as an Arduino library."""
    _consume(work, DEVICE)
    (work.folder / "libraries").mkdir()
    (work.folder / "libraries" / "gatewayd-rcp").symlink_to(DEVICE)
    sketch = work.folder / "sketch"
    sketch.mkdir()
    (sketch / "sketch.ino").write_text(_SKETCH)
    _arduino(work, "stub:esp32:stub", sketch / "sketch.ino")
    return "cmake, arduino-builder: the ESP32's core is a stub"


def tarball(work: Work) -> str:
    """The ports for which there is a compiler and nothing else is needed, from the tarball."""
    receiver = work.unpack("gatewayd-rcp")
    for port in ("microbit", "riscv"):
        work.run("make", "-C", receiver / "ports" / port)
    again = DIST.with_name("dist-before")
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(DIST, again)
    work.run("make", "-C", DEVICE, "dist")
    for archive in again.glob("*-*.*"):
        if archive.is_file() and archive.read_bytes() != (DIST / archive.name).read_bytes():
            raise BuildError(f"{archive.name} is another one when it is made again")
    shutil.rmtree(again)
    return "its ports by make; the same bytes when made again: no stub"


def arduino(work: Work) -> str:
    """The library and its sketch, by Debian's arduino-builder."""
    libraries = work.folder / "libraries"
    libraries.mkdir()
    library = work.unpack("gatewayd-rcp-arduino").rename(libraries / "gatewayd-rcp")
    said = _arduino(work, "stub:esp32:stub", library / "examples" / "Receiver" / "Receiver.ino")
    size = re.search(r"Sketch uses (\d+) bytes", said)
    if size is None or "WARNING" in said:
        raise BuildError(said)
    return f"arduino-builder, riscv64-unknown-elf-gcc, {size[1]} bytes: the ESP32's core is a stub"


def arduino_avr(work: Work) -> str:
    """On an AVR the builder warns and the compiler says why: as far as Debian's own core goes."""
    libraries = work.folder / "libraries"
    libraries.mkdir()
    work.unpack("gatewayd-rcp-arduino").rename(libraries / "gatewayd-rcp")
    sketch = work.folder / "sketch"
    sketch.mkdir()
    (sketch / "sketch.ino").write_text(_SKETCH)
    said = _arduino(work, "arduino:avr:uno", sketch / "sketch.ino", fails=True)
    for wanted in ("claims to run on", "RCP needs an int of 32 bits"):
        if wanted not in said:
            raise BuildError(f"'{wanted}' is not in:\n{said}")
    return "arduino-builder, arduino-core-avr: refused with a reason, no stub"


def _arduino(work: Work, board: str, sketch: Path, *, fails: bool = False) -> str:
    build = work.folder / "build"
    build.mkdir()
    hardware = ("/usr/share/arduino-builder", "/usr/share/arduino/hardware", STUBS / "arduino")
    run = work.fail if fails else work.run
    return run(
        *("arduino-builder", "-compile", "-warnings", "all", "-tools", "/usr/bin"),
        *(word for folder in hardware for word in ("-hardware", folder)),
        *("-libraries", work.folder / "libraries", "-fqbn", board, "-build-path", build),
        *("-prefs", f"build.sdk={STUBS / 'esp-idf' / 'include'}", sketch),
    )


def platformio(work: Work) -> str:
    """The library by `pio pkg pack`, and a project that depends on what was packed by `pio run`."""
    library = work.unpack("gatewayd-rcp-platformio")
    # pio compares the licence with a list that it fetches, here and at no other place.
    manifest = json.loads((library / "library.json").read_text())
    if manifest.pop("license") != "Apache-2.0":
        raise BuildError("library.json has another licence than LICENSE")
    (library / "library.json").write_text(json.dumps(manifest))
    core = work.folder / "core"
    _scons_of_pypi(work, core)
    home, pio = {"PLATFORMIO_CORE_DIR": core}, TOOLS / "pio"
    packed = work.folder / "packed.tar.gz"
    work.run_with(home, pio, "pkg", "pack", library, "-o", packed)
    project = work.folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "main.c").write_text(_MAIN)
    (project / "platformio.ini").write_text(
        f"[env:stub]\nplatform = symlink://{STUBS / 'platformio'}\nlib_deps = file://{packed}\n"
    )
    said = work.run_with(home, pio, "run", "-d", project)
    if "rcp_sha256.o" not in said or "[SUCCESS]" not in said:
        raise BuildError(said)
    return "pio pkg pack, pio run with PyPI's SCons, arm-none-eabi-gcc: the platform is a stub"


def _scons_of_pypi(work: Work, core: Path) -> None:
    """Put PyPI's SCons where pio looks for its own package of the same version, which it would fetch."""
    wanted = work.run(
        TOOLS / "python",
        "-c",
        "import platformio.dependencies as d; print(d.get_core_dependencies()['tool-scons'])",
    )
    version = wanted.strip().lstrip("~")
    package = core / "packages" / "tool-scons"
    package.mkdir(parents=True)
    (package / "scons.py").write_text("import SCons.Script\nSCons.Script.main()\n")
    (package / "package.json").write_text(json.dumps({"name": "tool-scons", "version": version}))
    spec = {"owner": "platformio", "name": "tool-scons", "id": None, "requirements": None, "uri": None}
    about = {"type": "tool", "name": "tool-scons", "version": version, "spec": spec}
    (package / ".piopm").write_text(json.dumps(about))


def zephyr(work: Work) -> str:
    """The module with its sample: its Kconfig by kconfiglib, which Zephyr uses, the rest by cmake."""
    module = work.unpack("gatewayd-rcp-zephyr")
    symbols = _kconfig(work, module / "zephyr" / "Kconfig", "RCP", "RCP_BLE", "RCP_ERASED_ZERO")
    sample = module / "ports" / "zephyr"
    stub = f"-DZephyr_DIR={STUBS / 'zephyr' / 'cmake'}"
    plain = work.cmake(sample, CORTEX_M4, stub)
    _assert_start(work, object_of(plain, "main.c"), "rcp_start_ble0_events0_blocks0")
    options = work.cmake(sample, CORTEX_M4, stub, "-DEXTRA_CONFIG=CONFIG_RCP_EVENTS=y")
    _assert_start(work, object_of(options, "main.c"), "rcp_start_ble0_events1_blocks0")
    return f"kconfiglib ({symbols}), cmake, arm-none-eabi-gcc: Zephyr's build system and headers are stubs"


def esp_idf(work: Work) -> str:
    """The component with its example: packed by compote, its Kconfig by kconfiglib, built for rv32imc."""
    component = work.unpack("gatewayd-rcp-esp-idf")
    version = re.search(r'version: "(.+)"', (component / "idf_component.yml").read_text())
    if version is None:
        raise BuildError("idf_component.yml has no version")
    pack = ("component", "pack", "--name", "rcp", "--version", version[1], "--project-dir", component)
    work.run(TOOLS / "compote", *pack, "--dest-dir", work.folder / "packed")
    for archive in ("rcp_{}.tgz", "rcp_{}_examples.tgz"):
        work.run("tar", "-tzf", work.folder / "packed" / archive.format(version[1]))
    symbols = _kconfig(work, component / "Kconfig", "RCP_BLE", "RCP_ISR_IN_IRAM")
    project = component / "ports" / "esp-idf"
    idf = STUBS / "esp-idf"
    plain = work.cmake(project, ESP32_C3, IDF_PATH=idf)
    _assert_start(work, object_of(plain, "main.c"), "rcp_start_ble0_events0_blocks0")
    options = work.cmake(project, ESP32_C3, "-DCONFIG_RCP_BLE=y", "-DCONFIG_RCP_ISR_IN_IRAM=y", IDF_PATH=idf)
    _assert_start(work, object_of(options, "main.c"), "rcp_start_ble1_events0_blocks0")
    table = work.run("riscv64-unknown-elf-objdump", "-t", object_of(options, "rcp.c"))
    _assert_section(table, ".iram1.rcp", "rcp_rx_byte")
    tools = f"compote, kconfiglib ({symbols}), cmake, {ESP32_C3.compiler}"
    return f"{tools}: ESP-IDF's build system and headers are stubs"


def sming(work: Work) -> str:
    """The port to the ESP8266: what interrupts call is in IRAM, and nothing is asked for that Sming lacks."""
    app = work.unpack("gatewayd-rcp") / "ports" / "sming" / "app"
    prefix = "xtensa-lx106-elf-"
    options = (
        "-mlongcalls",
        *WARNINGS,
        "-isystem",
        "/usr/lib/xtensa-lx106-elf/include",
        f"-I{STUBS / 'sming'}",
    )
    plus = ("-std=gnu++17", "-fno-exceptions", "-fno-rtti", '-DVERSION="1.0.0"')
    work.run(f"{prefix}g++", *plus, *options, "-c", app / "application.cpp")
    work.run(f"{prefix}gcc", *options, "-c", app / "rcp.c", app / "rcp_sha256.c")
    work.run(f"{prefix}ld", "-r", "-o", "app.o", "application.o", "rcp.o", "rcp_sha256.o")
    table = work.run(f"{prefix}objdump", "-t", "app.o")
    for function in ("rcp_rx_byte", "onInterrupt"):
        _assert_section(table, ".iram.text", function)
    unknown = set(re.findall(r" U (_?_\w*)", work.run(f"{prefix}nm", "app.o"))) - set(
        re.findall(r"_Z\w+", table)
    )
    if unknown:
        raise BuildError(f"libgcc is asked for {unknown}")
    size = work.run(f"{prefix}size", "app.o").splitlines()[1].split()
    return f"xtensa-lx106-elf-g++, {size[0]} bytes of code: Sming's headers are stubs"


def _kconfig(work: Work, file: Path, *wanted: str) -> str:
    script = (
        "import sys, kconfiglib; print(*sorted(kconfiglib.Kconfig(sys.argv[1], warn_to_stderr=False).syms))"
    )
    symbols = work.run(TOOLS / "python", "-c", script, file).split()
    if missing := set(wanted) - set(symbols):
        raise BuildError(f"{file} has no {missing}")
    return f"{sum(symbol.startswith('RCP') for symbol in symbols)} options"


def _assert_start(work: Work, made: Path, name: str) -> None:
    """The application and the receiver were compiled with the same options, which the name says."""
    if f"U {name}\n" not in work.run("nm", "-u", made):
        raise BuildError(f"{made} does not ask for {name}")


def _assert_section(table: str, section: str, function: str) -> None:
    if not re.search(rf"{re.escape(section)}\s+[0-9a-f]+ \S*{function}", table):
        raise BuildError(f"{function} is not in {section}:\n{table}")


FORMS: tuple[Form, ...] = (
    plain_cmake, in_place, tarball, arduino, arduino_avr, platformio, zephyr, esp_idf, esp_idf_runs, sming,
    sming_runs,
)  # fmt: skip
