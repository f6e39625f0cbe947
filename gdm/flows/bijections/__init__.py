"""Invertible maps with the logarithm of their Jacobian's determinant."""
