"""Databases in memory."""

from lab.folders import folder_in_memory

__all__ = ["folder_in_memory"]
