# What people type and what CI runs. Set-up happens by itself: system packages by apt (as root or with sudo), the rest in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.demo
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
PEER := $(VENV)/.peer
AXE := $(VENV)/axe/.installed
DIST_TOOLS := $(VENV)/dist/.installed
DIST_NEEDS := tests/suites/forms/requirements.txt
PYTEST_ARGS ?=
# Where it is set, each of the hundreds of processes that tests start would compile gatewayd again.
unexport PYTHONDONTWRITEBYTECODE
# Tests wait for lines and devices more than they compute. Those of one file may build on each other.
TEST_JOBS ?= $(shell expr 3 '*' $$(nproc))
# `make quick` waits for less.
QUICK_JOBS ?= $(shell expr 2 + $$(nproc))
# Not empty: random searches in `make test` try all their seeds, not a third of them.
THOROUGH ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
TARGETS ?=
POINTS ?= 1000
STATES ?= 20000
SECONDS ?= 600
HOURS ?= 3
ONLY ?=
FAULTS_ARGS ?=
SYSTEM_ARGS ?=
FLEET_ARGS ?=
FLOOD_SECONDS ?= 20
TRANSFER_CUTS ?= 4
SWAP_CUTS ?= 2
KILLS ?= 5
# The boards and their lines wait more than they compute.
SMP_JOBS ?= 3
SMP_TIMEOUT ?= 600
CHIP_ARGS ?=
TREES ?=

# In a network of its own, where there is nothing but loopback: as root.
ALONE := unshare --net sh -euc 'ip link set lo up; ip route add 224.0.0.0/4 dev lo; exec "$$@"' sh

# Each described target is a command, none a file.
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*##.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(DEMO)  ## Watch an update survive a broken line, from MQTT message to new version (DEMO_ARGS=--web: on a page, too)
	$(BIN)/gatewayctl demo $(DEMO_ARGS)

test: $(STAMP) system-packages  ## All tests, with a real mosquitto and the compiled C receiver
	$(MAKE) -C device all lab
	PATH="$$PATH:/usr/sbin:/sbin" GATEWAYD_THOROUGH=$(THOROUGH) $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

quick: $(STAMP) system-packages  ## After each change, in less than a minute: all tests but slow ones, which are whole gateways and long searches
	@$(MAKE) --no-print-directory -s -C device all lab
	$(BIN)/python -m pytest -q -n $(QUICK_JOBS) --dist loadfile --ignore tests/e2e --ignore tests/suites -m "not slow" $(PYTEST_ARGS)

coverage: $(STAMP) system-packages  ## Which lines the tests of `make quick` and of the daemon's process reach; fails below the floor in pyproject.toml
	@$(MAKE) --no-print-directory -s -C device all lab
	$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadfile -m "not slow or daemon" --cov --cov-report=term --cov-report=html:build/coverage $(PYTEST_ARGS)

check: $(STAMP)  ## Linters, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@./.ci/step 'checking types (the first time takes a minute)' $(BIN)/mypy
	$(BIN)/lint-imports

deb:  ## The Debian package, into build/deb, made in a Debian 13 tree of its own (as root or with sudo)
	@./.ci/packages deb
	@./.ci/deb

test-deb: deb  ## Install, upgrade, remove and purge the package in a clean Debian 13 tree; then from a signed apt repository
	@./.ci/packages release
	./.ci/test-deb

install:  ## Without a package, for Debian 12: into /opt/gatewayd and /usr/local, as a service (as root; DESTDIR= only lays out files)
	@./.ci/packages venv
	@./.ci/install

uninstall:  ## Take away what `make install` installed, but neither configuration, keys nor state (as root)
	@./.ci/install --remove

test-install: $(STAMP)  ## `make install` in a clean Debian 12 with a real systemd, an update, `make uninstall` (as root or with sudo; three minutes)
	@./.ci/packages system
	PYTHONPATH=tests $(BIN)/python -m suites.install

test-arm: $(STAMP)  ## The package on arm64 and armhf by emulation, with an update to a device (as root; the first time half an hour; ONLY=arm64)
	@./.ci/packages arm
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.arm $(addprefix --only ,$(ONLY))

test-system: $(STAMP)  ## The package on a clean Debian 13 with a real systemd in a container (as root or with sudo; two minutes)
	@./.ci/packages system
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.system $(SYSTEM_ARGS)

test-trixie:  ## demo, check and test in a clean Debian 13 tree with its own Python (as root or with sudo; ten minutes)
	@./.ci/packages deb
	./.ci/test-trixie

nightly:  ## Every suite with its full counts, as .ci/nightly lists them (hours; as root or with sudo)
	./.ci/targets .ci/nightly

release:  ## Packages, apt repository, wheel, sdist, receiver, checksums into build/release; VERSION=1.2.3 first cuts that version. Never uploads
	@$(MAKE) --no-print-directory $(STAMP)
	@./.ci/packages release
	$(BIN)/python .ci/release.py $(VERSION)

test-vm: $(STAMP)  ## The real stack in QEMU: BlueZ with virtual radios, and the package with an FTDI port (3 minutes; ONLY=bluetooth or hotplug)
	@./.ci/packages vm
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.vm $(addprefix --only ,$(ONLY))

test-chip: $(STAMP) system-packages  ## The C receiver on an emulated nRF51822: updates, bad images, TRANSFER_CUTS=4 and SWAP_CUTS=2 of its power (2 minutes)
	@./.ci/packages chip
	$(MAKE) -C device/ports/microbit lab
	PYTHONPATH=tests $(BIN)/python -m suites.chip --transfer-cuts $(TRANSFER_CUTS) --swap-cuts $(SWAP_CUTS) $(CHIP_ARGS)

test-ports: $(STAMP) system-packages  ## The other ports that QEMU has a board for: RISC-V, Cortex-M3 (a minute)
	@./.ci/packages ports
	for port in riscv mps2; do $(MAKE) -C device/ports/$$port && PYTHONPATH=tests $(BIN)/python -m suites.chip \
		--board $$port --transfer-cuts $(TRANSFER_CUTS) $(CHIP_ARGS) || exit 1; done

test-dist: $(STAMP) system-packages  ## The receiver as Arduino, PlatformIO and Sming library, Zephyr module, ESP-IDF component, by their tools (a minute)
	@./.ci/packages dist
	@$(MAKE) --no-print-directory $(DIST_TOOLS)
	$(MAKE) -s -C device dist
	PYTHONPATH=tests $(BIN)/python -m suites.forms $(addprefix --only ,$(ONLY))

bench: $(STAMP) system-packages  ## Speed and cost of everything, into build/bench.json (half an hour; BENCH_ARGS=--quick)
	$(MAKE) -C device
	@$(MAKE) --no-print-directory $(PEER) || echo "gatewayd: the bench will run without its peer"
	@./.ci/packages web || echo "gatewayd: the bench will run without a browser"
	PYTHONPATH=tests $(BIN)/python -m suites.bench $(BENCH_ARGS)

ansible: $(STAMP)  ## The role in docs/ansible by the real ansible-playbook, for two hosts with running daemons (two minutes)
	$(BIN)/python -m pytest tests/suites/ansible/ansible_role.py

test-smp: $(STAMP) system-packages  ## Updates of Zephyr's own SMP servers with MCUboot in QEMU, from MQTT message to confirmed version (as root; three minutes)
	@./.ci/packages bench
	@PYTHONPATH=tests $(BIN)/python -m suites.smp
	GATEWAYD_KILLS=$(KILLS) $(BIN)/python -m pytest $(addprefix tests/suites/smp/,real_servers.py larger_boards.py mixed_fleet.py by_radio.py) -n $(SMP_JOBS) --dist load --timeout $(SMP_TIMEOUT)

test-web: $(STAMP) system-packages $(AXE)  ## The page in a real chromium: shown, pressed, by keyboard, in the dark, by axe (two minutes)
	@./.ci/packages web
	$(MAKE) -C device
	$(BIN)/python -m pytest tests/suites/web/page_in_chromium.py

test-ha: $(STAMP) system-packages  ## The real Home Assistant, driven by REST in a Debian 13 tree without network: shown, pressed, restarted (as root; 1 GB of disk, three minutes)
	@./.ci/packages ha
	./.ci/home-assistant
	$(MAKE) -C device
	$(ALONE) $(BIN)/python -m pytest --timeout 900 tests/suites/home_assistant/real_home_assistant.py

test-prometheus: $(STAMP) system-packages  ## Alert rules by the real promtool, and each query of the dashboard by a real Prometheus (half a minute)
	@./.ci/packages prometheus
	@$(MAKE) --no-print-directory -s -C device
	promtool check rules docs/prometheus/gatewayd.rules.yaml
	promtool test rules tests/suites/prometheus/gatewayd.rules.test.yaml
	$(BIN)/python -m pytest -q tests/suites/prometheus/dashboard_in_prometheus.py

pictures: $(STAMP) system-packages $(AXE)  ## Take the pictures in docs/images anew, of the page and of Prometheus' answer (a minute)
	@./.ci/packages web
	@./.ci/packages prometheus
	@$(MAKE) --no-print-directory -s -C device
	GATEWAYD_PICTURES=1 $(BIN)/python -m pytest tests/suites/web/page_in_chromium.py -k picture
	$(BIN)/python -m pytest tests/suites/prometheus/picture.py

pictures-ha: $(STAMP) system-packages  ## Take the pictures of Home Assistant in docs/images anew (as root)
	@./.ci/packages ha
	@./.ci/packages web
	./.ci/home-assistant
	$(MAKE) -C device
	$(ALONE) $(BIN)/python -m pytest --timeout 900 tests/suites/home_assistant/pictures_in_chromium.py

fleet-bench: $(STAMP) system-packages  ## 200 gateways with ten devices each at one mosquitto, one release to all (three minutes)
	PYTHONPATH=tests $(BIN)/python -m suites.fleet $(FLEET_ARGS)

flood: $(STAMP) system-packages  ## 40,000 small QoS 0 messages a second for FLOOD_SECONDS=20, then a genuine release; with goals (a minute)
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.flood --seconds $(FLOOD_SECONDS)

brokers: $(STAMP) system-packages  ## The whole job at nine brokers from Debian, PyPI and npm, with the table in docs/brokers.md (as root or with sudo; 15 minutes)
	@./.ci/packages deb
	./.ci/brokers
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.brokers --write $(addprefix --only ,$(ONLY))

crowd: $(STAMP) system-packages  ## What 7 bad devices cost 25 healthy ones, with goals (half a minute)
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.crowd

transcripts: $(STAMP) system-packages  ## Record the terminal sessions in the documentation anew (half a minute)
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.transcripts

kills: $(STAMP) system-packages  ## SIGKILL at 50 random moments of updates, with each receiver (four minutes)
	$(MAKE) -C device
	GATEWAYD_KILLS=50 $(BIN)/python -m pytest tests/e2e/test_interruptions.py -k random_moments --timeout 900

fuzz: $(STAMP) system-packages  ## Fuzz all parsers, and the C receiver with sanitizers: FUZZ_SECONDS=60 for each, TARGETS=
	@./.ci/packages fuzz
	@./.ci/step 'installing what fuzzes' $(PIP) -e '.[dev,fuzz]'
	GATEWAYD_EXAMPLES=10000 $(BIN)/python -m pytest -q tests/suites/fuzz/test_parsers.py tests/suites/fuzz/test_parsers_smp.py
	PYTHONPATH=tests $(BIN)/python -m suites.fuzz --seconds $(FUZZ_SECONDS) $(TARGETS)
	$(MAKE) -C device libfuzzer SECONDS=$(FUZZ_SECONDS)

sweep: $(STAMP) system-packages  ## SIGKILL at each system call of the store: POINTS=1000, or ONLY=SCENARIO:CALL:N
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.sweep --points $(POINTS) $(addprefix --only ,$(ONLY))

large: $(STAMP) system-packages  ## One message of 255 MiB, the largest that may be allowed, through mosquitto (2 GiB of memory)
	$(MAKE) -C device
	$(BIN)/python -m pytest -s tests/suites/large/large_message.py --timeout 600

soak: $(STAMP) system-packages  ## Updates for SECONDS=600 while daemon, broker and devices are killed and restarted at random
	$(MAKE) -C device
	PYTHONPATH=tests $(BIN)/python -m suites.soak --seconds $(SECONDS) $(addprefix --seed ,$(SEED))

power-loss: $(STAMP) system-packages  ## What a power cut may leave of the store at any moment, opened and judged: STATES=20000
	PYTHONPATH=tests $(BIN)/python -m suites.power_loss --states $(STATES)

wear: $(STAMP)  ## What devices and strangers who bring nothing new make the store write in an hour, with limits: HOURS=3 of virtual time (two minutes)
	PYTHONPATH=tests $(BIN)/python -m suites.wear --hours $(HOURS)

faults: $(STAMP) system-packages  ## ENOSPC and EIO at each write of the store, with a table (two minutes)
	PYTHONPATH=tests $(BIN)/python -m suites.faults $(FAULTS_ARGS)

figures: $(STAMP)  ## Files, functions, floors, arrows, codes outside their table: TREES="COMMIT FOLDER ..." side by side
	@PYTHONPATH=tests $(BIN)/python -m suites.figures $(TREES)

size: system-packages  ## Code, RAM and stack of the C receiver on a Cortex-M0
	$(MAKE) -C device size

matrix: system-packages  ## The C receiver by gcc and clang, as C99, C11 and C++17, for seven processors, and by cppcheck
	$(MAKE) -C device matrix lint

clean:  ## Remove what was built, and the virtual environment
	rm -rf $(VENV) build dist device/build .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: system-packages
system-packages:
	@./.ci/packages test

# What the bench compares with. It can do without: the table then says what is missing.
$(PEER): $(STAMP)
	@./.ci/packages bench
	@./.ci/step 'installing the peer of the bench' $(PIP) -e '.[dev,bench]'
	@touch $@

# The tools of other worlds, kept apart from what the tests import.
$(DIST_TOOLS): $(DIST_NEEDS)
	@./.ci/step 'making $(VENV)/dist' $(PYTHON) -m venv $(VENV)/dist
	@./.ci/step 'installing what builds packages of the receiver into $(VENV)/dist' \
		$(VENV)/dist/bin/python -m pip install --disable-pip-version-check --progress-bar off -r $(DIST_NEEDS)
	@touch $@

# axe-core, which judges whether everybody can use the page: the package brings the script, and is not run itself.
$(AXE): $(STAMP)
	@./.ci/step 'installing axe-core into $(VENV)/axe' \
		$(PIP) --no-deps --upgrade --target $(VENV)/axe 'axe-playwright-python==0.1.8'
	@touch $@

# What the demo needs, which is a fraction of what the tests do; with the rest installed nothing is missing.
$(DEMO): pyproject.toml
	@./.ci/packages venv
	@./.ci/step 'making $(VENV)' $(PYTHON) -m venv $(VENV)
	@./.ci/step 'installing gatewayd and what its demo needs into $(VENV)' $(PIP) -e '.[demo]'
	@touch $@

$(STAMP): pyproject.toml
	@./.ci/packages venv
	@./.ci/step 'making $(VENV)' $(PYTHON) -m venv $(VENV)
	@./.ci/step 'installing gatewayd and what its tests need into $(VENV)' $(PIP) -e '.[dev]'
	@./.ci/step 'installing the Bluetooth library of Debian 13 into $(VENV)/oldest' \
		$(PIP) --no-deps --upgrade --target $(VENV)/oldest 'bleak==0.22.3' 'dbus-fast==2.44.1'
	@touch $@ $(DEMO)
