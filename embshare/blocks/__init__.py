"""What derived weights are cut from: a table's columns, and where its values are."""
