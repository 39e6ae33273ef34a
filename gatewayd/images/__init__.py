"""The part of a release that a device takes, opened once and shared."""
