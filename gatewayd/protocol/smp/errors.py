"""Errors in bytes that should be SMP."""

from gatewayd.errors import DeviceError


class MalformedError(DeviceError):
    """Bytes that arrived intact but violate the protocol."""

    default_code = "malformed"
