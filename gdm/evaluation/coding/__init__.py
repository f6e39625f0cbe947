"""Lossless coding by a model's own conditionals: the proof that its bits are bits."""
