"""Scenes drawn with Pillow and described by a grammar: data that any machine has."""
