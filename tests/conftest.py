import signal

from hypothesis import settings

# Who runs in the background of a script ignores SIGINT, and so would all it starts: Ctrl-C would end nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no defect: time is never asserted.
settings.register_profile("gatewayd", deadline=None)
settings.load_profile("gatewayd")

# What runs in a virtual machine, and reports from there.
collect_ignore = ["suites/vm"]
