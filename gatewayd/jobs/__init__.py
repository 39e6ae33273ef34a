"""The values that planning, delivery and the store share."""
