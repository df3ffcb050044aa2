"""Translation: aligned sentences, subwords, training, beam search, BLEU and chrF.

Modules are imported by name, since some need packages of the extras ``hf`` and ``translation``.
"""
