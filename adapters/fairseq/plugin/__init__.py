"""Holds the one folder that fairseq puts on ``sys.path``; nothing else may be here."""
