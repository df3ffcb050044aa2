"""What tasks on text have in common: tokenizer, corpora, files, batches, pretrained runs.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
