"""What has to be done, what was done, and who does it next."""
