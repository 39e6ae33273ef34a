"""RCP, the resumable chunk protocol of docs/protocol.md."""
