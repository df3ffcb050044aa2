"""The living model: the bank, what it has derived, and the layers that read it."""
