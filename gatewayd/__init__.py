"""gatewayd: firmware from MQTT to microcontrollers behind a UART, resumable to the last byte."""

__version__ = "0.1.0"
