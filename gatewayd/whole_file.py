"""A file that is replaced as a whole: who reads it sees the old content or the new one."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from gatewayd.errors import HostError


def replace_file(path: Path, text: str, *, mode: int = 0o600, is_durable: bool = False) -> None:
    """Replace it in one step, and leave nothing beside it. Raises HostError.

    With `is_durable` the content is on the disk before the file has its name.
    """
    draft: str | None = None
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            draft = file.name
            file.write(text.encode())
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        Path(draft).chmod(mode)
        Path(draft).replace(path)
    except OSError as error:
        if draft is not None:
            with suppress(OSError):
                Path(draft).unlink()
        raise HostError(f"cannot write {path}: {error.strerror or error}") from error
