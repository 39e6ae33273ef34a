"""RCP in memory: gateways and receivers joined by lines whose time only a test moves."""
