"""What the image slots mean for an update. Pure.

The awkward case is a device that has reverted: its slots look as they did before the trial, old image active
and confirmed, new image in the other slot, not pending. Only the stored `is_armed` tells the two apart. It is
stored after the device has acknowledged the test and before it is told to restart, so an image that hangs is
tried once, whatever happens to the gateway in between.

An image that MCUboot finds damaged, or whose signature it does not accept, is never started, and erased. So
an image that was armed and has left its slot empty was *rejected*. So was the one that was armed in serial
recovery, if that still answers: identification has let it restart once more by then.
"""

from gatewayd.protocol.smp.answers import Slots
from gatewayd.protocol.smp.facts import Facts, slot_id
from gatewayd.protocol.steps import Step, Update


def next_step(update: Update, facts: Facts) -> Step:
    """Decide the next step."""
    active = facts.active
    if update.image is None:
        return Step.TRANSFER
    if active is not None and slot_id(active) == update.image:
        return Step.SUCCEED if active.is_confirmed else Step.CONFIRM
    if update.is_armed:
        return _after_arming(facts)
    if active is not None and not active.is_confirmed:
        return Step.AWAIT_TRIAL_END
    return Step.TRANSFER


def _after_arming(facts: Facts) -> Step:
    """Decide for a device that was to start the image and does not run it."""
    if not facts.is_recovery and _is_pending(facts.slots):
        return Step.RESTART
    is_gone = all(slot.is_active for slot in facts.slots.all)
    return Step.FAIL_REJECTED if is_gone or facts.is_recovery else Step.FAIL_REVERTED


def has_restarted(update: Update, facts: Facts) -> bool:
    """Whether the restart has taken effect: a device still answers for a while after agreeing to it."""
    active = facts.active
    runs_it = active is not None and slot_id(active) == update.image
    return facts.is_recovery or runs_it or not _is_pending(facts.slots)


def _is_pending(slots: Slots) -> bool:
    """Whether any image waits for its first start. A compressed image's hash changes then."""
    return any(slot.is_pending and not slot.is_active for slot in slots.all)
