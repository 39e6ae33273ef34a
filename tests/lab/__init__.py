"""What tests of several kinds are made with."""
