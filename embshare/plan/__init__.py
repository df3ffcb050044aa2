"""Decides which weight is read from which columns of which table, and touches nothing."""
