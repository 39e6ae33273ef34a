"""What the image slots mean for an update. Pure.

The awkward case is a device that has gone back: its slots look as they did before the trial, old image active
and confirmed, new image in the other slot, not pending. Only the stored `is_armed` tells the two apart. It is
stored after the device has acknowledged the test and before it is told to restart, so an image that hangs is
tried once, whatever happens to the gateway in between.
"""

from gatewayd.protocol.smp.answers import Slots
from gatewayd.protocol.smp.facts import Facts, slot_id
from gatewayd.protocol.steps import Step, Update


def next_step(update: Update, facts: Facts) -> Step:
    """Decide the next step."""
    active = facts.active
    if update.image is None or facts.is_recovery:
        return Step.TRANSFER
    if active is not None and slot_id(active) == update.image:
        return Step.SUCCEED if active.is_confirmed else Step.CONFIRM
    if update.is_armed:
        return Step.RESTART if _is_pending(facts.slots) else Step.FAIL_REVERTED
    if active is not None and not active.is_confirmed:
        return Step.AWAIT_TRIAL_END
    return Step.TRANSFER


def has_restarted(update: Update, facts: Facts) -> bool:
    """Whether the restart has taken effect: a device goes on answering for a while after it agreed."""
    active = facts.active
    runs_it = active is not None and slot_id(active) == update.image
    return facts.is_recovery or runs_it or not _is_pending(facts.slots)


def _is_pending(slots: Slots) -> bool:
    """Whether any image waits for its first start. Not by its hash: a compressed image runs under another."""
    return any(slot.is_pending and not slot.is_active for slot in slots.all)
