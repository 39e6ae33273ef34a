"""`make bench`: how fast gatewayd is and what it costs. One subject a file; `__main__.py` begins."""
