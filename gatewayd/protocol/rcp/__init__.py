"""RCP, the resumable chunk protocol: codec and sender of docs/protocol.md, the normative text."""
