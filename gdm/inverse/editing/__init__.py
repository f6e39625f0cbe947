"""Editing by a denoiser: SDEdit, DDIM inversion, interpolation, variations, other labels."""

from gdm.inverse.editing.generation import generated
from gdm.inverse.editing.inversion import interpolated, inverted, reconstructed, variations
from gdm.inverse.editing.sdedit import sdedit

__all__ = ["generated", "interpolated", "inverted", "reconstructed", "sdedit", "variations"]
