"""What a session may do to a device beyond the ordinary course of an update."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permissions:
    """See the module's text.

    Attributes:
        leave_recovery: restart a device in serial recovery, so that its application starts.
        use_recovery: restore a device through serial recovery, if a restart does not help.
        start_without_trial: start an image that the bootloader will not revert.
    """

    leave_recovery: bool = True
    use_recovery: bool = False
    start_without_trial: bool = False


ORDINARY = Permissions()
