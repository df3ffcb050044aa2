"""SQuAD 1.1 and 2.0: answers to questions as spans of a passage.

Modules are imported by name, since some need packages of the extra ``hf``.
"""
