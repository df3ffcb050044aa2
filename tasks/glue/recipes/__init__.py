"""Settings of published fine-tunings: files for ``embshare train glue --config``."""
