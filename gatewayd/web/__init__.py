"""`gatewayd-web`: the page. A process of its own; of the daemon it knows the control socket alone."""
