"""`gatewayctl notify`: tells a person what devices need, by a program of theirs.

A process of its own; of the daemon it knows the control socket alone.
"""
