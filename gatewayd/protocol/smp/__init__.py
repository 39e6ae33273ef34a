"""SMP (MCUmgr): firmware for Zephyr, nRF Connect SDK, Mynewt and MCUboot devices. Sans-I/O."""
