"""One run: a task, a model, a seed; from settings to a folder with the model and its result."""
