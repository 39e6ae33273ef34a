"""Find devices: `uart` scans ports, `ble` listens for advertisements, and `answers` identifies devices."""
