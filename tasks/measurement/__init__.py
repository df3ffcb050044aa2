"""Measure models and runs: sizes, memory, provenance."""
