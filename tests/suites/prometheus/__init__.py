"""The alert rules by promtool, and the dashboard by a real Prometheus: `make test-prometheus`."""
