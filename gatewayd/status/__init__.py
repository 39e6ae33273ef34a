"""What is known of each device, and who hears of changes."""
