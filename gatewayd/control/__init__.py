"""gatewayctl's interface to the daemon: one request or subscription per connection to a Unix socket.

A request is a line of JSON, and so is each answer (`messages`; the schema is in docs/control.schema.json). A
file is passed as an open descriptor, so only the client needs permission to read it.
"""
