"""TODO start."""
