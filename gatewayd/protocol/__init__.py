"""Sans-I/O: bytes in, bytes out, deadlines. No clock, no event loop."""
