"""Pure functions of tensors: they know no layer, plan or bank."""
