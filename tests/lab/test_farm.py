"""What the other tests here stand on."""

from pathlib import Path

import pytest

from lab import farm


@pytest.mark.parametrize("receiver", ["c", "restarts"])
def test_a_receiver_that_is_not_built_is_said_and_not_waited_for(
    receiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert farm.receiver_command(receiver)
    monkeypatch.setattr(farm, "RCP_DEVICE", tmp_path / "rcp-device")
    with pytest.raises(AssertionError, match=r"rcp-device is not built: run `make -C device` first"):
        farm.receiver_command(receiver)
