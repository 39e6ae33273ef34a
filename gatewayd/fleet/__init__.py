"""One-off queries about all gateways of a broker."""
