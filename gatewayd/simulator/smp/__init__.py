"""A virtual SMP device: Zephyr's server with MCUboot, as recorded conversations show it."""
