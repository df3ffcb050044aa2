"""What `embshare.check` looks for; `embshare.checks.kinds` is the table of it."""
