"""Suites that take minutes, a folder each (`make help` has their commands); a `test_*.py` is a short form."""
