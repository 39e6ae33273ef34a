"""Which devices are there: `uart` looks at ports, `ble` listens to the radio; `answers` is HELLO for both."""
