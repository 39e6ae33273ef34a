"""Bytes to and from a device; the only modules that touch a serial port or a radio."""
