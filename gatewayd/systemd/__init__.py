"""The interface to systemd: notifications, watchdog, health checks, journal."""
