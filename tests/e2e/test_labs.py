"""What the other tests here stand on."""

from pathlib import Path

import e2e_lab
import pytest


@pytest.mark.parametrize("receiver", ["c", "restarts"])
def test_a_receiver_that_is_not_built_is_said_and_not_waited_for(
    receiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert e2e_lab.receiver_command(receiver)
    monkeypatch.setattr(e2e_lab, "RCP_DEVICE", tmp_path / "rcp-device")
    with pytest.raises(AssertionError, match=r"rcp-device is not built: run `make -C device` first"):
        e2e_lab.receiver_command(receiver)
