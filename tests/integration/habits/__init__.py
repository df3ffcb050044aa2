"""What people commonly do to a model, and what a shared one does then: one file for each kind."""
