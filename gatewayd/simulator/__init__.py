"""Virtual devices with fault injection."""
