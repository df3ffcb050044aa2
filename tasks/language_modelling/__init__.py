"""Language modelling: text, vocabularies, windows, exact perplexity and training.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
