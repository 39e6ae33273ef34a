"""Bytes to and from a device; the only files that touch a port."""
