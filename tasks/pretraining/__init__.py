"""Pretraining of encoders: hidden words are predicted, or replaced ones are found.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
