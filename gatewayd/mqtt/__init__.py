"""MQTT: one session with the broker, intake of firmware, reports."""
