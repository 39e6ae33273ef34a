"""`make test-smp`: gatewayd against Zephyr's own SMP servers in QEMU, and the model against them."""
