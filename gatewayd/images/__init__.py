"""Firmware opened once, for its verdict and for all transfers."""
