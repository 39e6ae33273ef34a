"""The latest status of each device, and subscriptions to changes."""
