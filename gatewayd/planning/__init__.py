"""What should happen: the planner, its preview, and what people order."""
