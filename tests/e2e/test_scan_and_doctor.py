"""`scan` and `doctor` beside a daemon that is at work: they are not in its way."""

import asyncio
import json
import random

from lab.farm import Farm

# At 12,000 bytes a second longer than three commands side by side take on a busy machine.
SIZE = 240_000


async def test_beside_a_transfer(farm: Farm) -> None:
    device = farm.device("pump-1", rate=12_000, slot_address=0x2000)
    farm.gateway.config["devices"] = [device.config()]
    farm.gateway.start()
    await farm.gateway.until_state("pump-1", "idle")
    image = random.Random(1).randbytes(SIZE)
    farm.gateway.publish(farm.gateway.pack(image), "4.3.2")
    await farm.gateway.until_state("pump-1", "transferring")
    assert farm.gateway.process is not None
    pid = farm.gateway.process.pid

    known, stranger, doctor = await asyncio.gather(
        *(
            asyncio.to_thread(farm.gateway.ctl, *words, check=False)
            for words in (
                ("scan", "uart", "--reset", "--port", device.port, "--config", "config.yaml"),
                ("scan", "uart", "--reset", "--port", device.port, "--json"),
                ("doctor", "--config", "config.yaml", "--json"),
            )
        )
    )
    assert farm.gateway.status["pump-1"]["state"] == "transferring", "all that was in mid-transfer"
    assert "is pump-1 in the configuration; in use by the running gatewayd" in known.stdout
    (port,) = json.loads(stranger.stdout)["ports"]
    assert port["code"] == "link_busy"
    assert f"(process {pid})" in port["text"]
    report = json.loads(doctor.stdout)
    assert report["ok"], report
    texts = {finding["subject"]: finding["text"] for finding in report["findings"]}
    assert texts["last will"] == "the broker accepted it with gatewayd's own connection"
    assert texts["marker"] == "gatewayd/barn/marker may be written and read"
    assert texts["daemon"] == f"gatewayd is running (process {pid})"
    assert texts["pump-1"].endswith("is there, pty, in use by gatewayd")
    await farm.gateway.until_state("pump-1", "succeeded")
    assert device.active == image
    attempts = {status.get("attempt") for _, status in farm.gateway.history}
    assert attempts <= {None, 0, 1}, "not once interrupted"
    assert not [one for one in farm.gateway.log_events("transfer") if one["offset"]], "nothing was resumed"
