"""Starting values that are fitted to the weights a model has (``init="svd"``)."""
