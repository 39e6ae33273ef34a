import signal

# Who runs in the background of a script ignores SIGINT, and so would all it starts: Ctrl-C would end nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)
