"""What should happen: the planner, its preview, and people's commands."""
