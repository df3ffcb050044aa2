"""Run a task with one model and one seed: from settings to a folder with model and result."""
