"""Captioning: images, captions, models, scores and self-critical training.

Modules are imported by name, since most need packages of the extra ``captioning``.
"""
