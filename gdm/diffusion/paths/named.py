"""Paths by name."""

from typing import Any

from gdm.diffusion.paths.others import EDM, VE, RectifiedFlow
from gdm.diffusion.paths.path import Path
from gdm.diffusion.paths.variance_preserving import Cosine, LogSNRLinear, PiecewiseBeta, SubVP, VPLinear
from gdm.errors import ConfigError, nearest

PATHS: dict[str, type] = {"vp_linear": VPLinear, "cosine": Cosine, "sub_vp": SubVP, "log_snr_linear": LogSNRLinear,
                          "piecewise_beta": PiecewiseBeta, "ve": VE, "edm": EDM, "rectified_flow": RectifiedFlow}


def path(name: str, **fields: Any) -> Path:
  """The path called `name` with these fields; a ConfigError names the nearest known one."""
  if name not in PATHS:
    raise ConfigError(f"path is {name!r}; {nearest(name, PATHS)}")
  return PATHS[name](**fields)
