"""Real SMP servers: Zephyr with MCUboot in QEMU, and what is done to them."""
