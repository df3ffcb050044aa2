"""The nine tasks of GLUE: sentences, and pairs of them, to be classified or scored.

Modules are imported by name, since some need packages of the extras ``hf`` and ``glue``.
"""
