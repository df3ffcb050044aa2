"""Pretraining of encoders: masked language modelling, or detection of replaced tokens.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
