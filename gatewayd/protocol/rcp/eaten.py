"""Tell a line that does not carry each byte from a noisy one, by what all lost frames have in common."""

from collections.abc import Sequence

# What programs and adapters that take a line for text keep for themselves, or change.
_CULPRITS = (
    ("XON or XOFF (0x11, 0x13)", frozenset(b"\x11\x13")),
    ("CR (0x0d)", frozenset(b"\r")),
    ("LF (0x0a)", frozenset(b"\n")),
)
# Fewer losses may have it in common by chance: of 46 random bytes one is XON or XOFF in three of ten cases.
_LEAST = 12


def eaten(lost: Sequence[bytes]) -> str:
    """Return what each of the lost frames contains that lines are known to eat; empty: nothing."""
    if len(lost) < _LEAST:
        return ""
    found = [name for name, values in _CULPRITS if all(not values.isdisjoint(wire) for wire in lost)]
    return ", or ".join(found)
