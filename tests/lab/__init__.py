"""What tests stand on: brokers, devices, lines and whole gateways, in memory or as processes."""
