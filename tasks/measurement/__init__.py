"""What is measured of every model and every run: sizes, memory, and where a number came from."""
