"""What systemd is told, and what it is given: notify, watchdog, health, journal."""
