"""One QEMU: started, followed until it powers off, ended when its time is over."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vm.image import Image

MEMORY = "1024"


def boot(image: Image, project: Path, out: Path, job: str, *, limit_s: float, devices: Sequence[str]) -> int:
    """Boot with the project at /src and `out` at /out until it powers off; returns the exit status, 124 when it took too long.

    There is no network. `job` is what runs as the first process; its console is in `out`.
    """

    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", MEMORY),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", f"console=ttyS0 quiet panic=-1 mitigations=off job={job}"),
        *("-serial", f"file:{out / 'console'}"),
        *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
        *("-device", "virtio-rng-pci"),
        *("-virtfs", f"local,path={project},mount_tag=src,security_model=none"),
        *("-virtfs", f"local,path={out},mount_tag=out,security_model=none"),
        *devices,
    ]
    try:
        return subprocess.run(command, timeout=limit_s, check=False).returncode
    except subprocess.TimeoutExpired:
        return 124
