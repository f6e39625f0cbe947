"""Flax modules: tensors in, tensors out. No losses, no sampling loops."""
