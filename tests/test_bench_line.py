"""The benchmark measures what it says; its figures are looked at by people, not by tests."""

import pytest
from bench_line import FAST, Cell, document, measure
from e2e_lab import RECEIVERS

# 1024 bytes of payload travel in 1037 or more: type, session, offset, CRC, COBS and two delimiters.
CEILING = 1024 / 1037


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_a_transfer_is_paced_by_its_line(receiver: str) -> None:
    efficiency = await measure(Cell(receiver, FAST, 0), size=64_000, seed=1)
    assert 0 < efficiency < CEILING


def test_the_document_has_what_scripts_rely_on() -> None:
    assert document({Cell("c", 11520, 0): [0.9, 0.97, 0.98]}) == {
        "rcp_uart": [
            {
                "receiver": "c",
                "rate": 11520,
                "latency_ms": 5,
                "flip_rate": 0,
                "chunk": 1024,
                "efficiency": 0.97,
            }
        ]
    }
