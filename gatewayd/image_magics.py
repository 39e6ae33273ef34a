"""How well-known kinds of image begin."""

MCUBOOT = bytes.fromhex("3db8f396")  # IMAGE_MAGIC, little endian
RBOOT = bytes.fromhex("ea04")
ESP = 0xE9  # ESP_IMAGE_HEADER_MAGIC
