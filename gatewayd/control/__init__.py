"""How gatewayctl and the daemon talk: one request, or one subscription, per connection to a Unix socket.

A request is a line of JSON, each answer another (`messages`; the schema is in docs/control.schema.json). A
file goes along as an open descriptor: whoever asks needs the right to read it, and the daemon does not.
"""
