"""32 devices at once, bad ones among them. Its figures, on an image of full size, are `make crowd`'s."""

import random

import pytest
from lab.crowd import VERSION, Crowd, bad_devices
from lab.farm import Farm

IMAGE = random.Random(32).randbytes(60_000)
# What the daemon's memory may grow by while 32 devices talk to it; measured: below 1.
GROWTH_MIB = 8


@pytest.mark.attack("seven bad devices among 25 healthy ones")
async def test_the_healthy_ones_come_through_and_the_bad_ones_end_with_reasons_of_their_own(
    farm: Farm,
) -> None:
    bad = bad_devices(attempts=2, every_s=1.0)
    crowd = Crowd(farm, bad)
    found = await crowd.run(IMAGE)
    for name in crowd.healthy:
        status = found.statuses[name]
        assert (name, status["state"], status["installed_version"]) == (name, "succeeded", VERSION)
        assert status["attempt"] == 1, "nobody else's trouble may cost a healthy device an attempt"
        assert found.images[name] == IMAGE
    assert {name: found.statuses[name]["code"] for name in bad} == {
        name: one.code for name, one in bad.items()
    }
    reasons = {found.statuses[name]["reason"] for name in bad}
    assert len(reasons) == len(bad)
    for name in bad:
        reason = found.statuses[name]["reason"]
        assert found.ports[name] in reason
        assert reason.endswith(")"), "the next step stands in parentheses"
        assert found.images[name] is None
    assert max(found.rss_mib) - found.rss_mib[0] < GROWTH_MIB
