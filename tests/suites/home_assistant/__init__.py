"""`make test-ha`: the real Home Assistant at a real mosquitto, with the daemon and its virtual devices."""
