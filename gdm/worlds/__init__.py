"""Environments that are acted in, their rollouts as data, and controllers; needs the extra "worlds"."""
