"""What blocks are made of: a table's columns, or parameters; and where their values are."""
