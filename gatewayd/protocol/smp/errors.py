"""What is wrong with bytes that should be SMP."""

from gatewayd.errors import DeviceError


class MalformedError(DeviceError):
    """Bytes that arrived whole and are not what the protocol says."""

    default_code = "malformed"
