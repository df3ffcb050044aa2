"""DynaBERT's training: three stages over all sub-networks, and what they are measured by."""
