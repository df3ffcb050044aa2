"""What tasks of reading text have in common: tokenizers, files, batches, pre-trained starts.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
