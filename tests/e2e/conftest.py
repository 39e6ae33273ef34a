"""A whole gateway for each test."""

from lab.fixtures import farm_in_a_folder

__all__ = ["farm_in_a_folder"]
