"""Docstrings of public names show an example, and it runs."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gdm
from gdm.dataspec import DataSpec
from gdm.diffusion.networks.unet import UNet
from gdm.diffusion.paths.variance_preserving import VPLinear
from gdm.diffusion.weightings import MinSNR
from gdm.model import Denoiser
from gdm.networks.mlp import MLP

NOT_RUN = {"evaluation.add_row": "needs a file of data", "inverse.restore": "needs a trained run"}
SLOW = ("diffusion.Consistency", "diffusion.Diffusion", "diffusion.edm", "discrete_diffusion.D3PM",
        "discrete_diffusion.LearnedTime", "discrete_diffusion.MaskedModel", "flows.Continuous", "flows.Flow",
        "flows.Inverse", "flows.InvertibleResidual", "flows.LogisticMixtureCDF", "flows.MaskedAutoregressive",
        "flows.image_coupling", "flows.vector_coupling", "inverse.Restored", "inverse.editing.interpolated",
        "inverse.editing.sdedit", "inverse.editing.variations")


def public_names():
  """Classes and functions that packages list in `__all__`, by "package.name"."""
  found = {}
  for package in pkgutil.walk_packages(gdm.__path__, "gdm."):
    if package.ispkg:
      module, short = importlib.import_module(package.name), package.name.removeprefix("gdm.")
      found |= {f"{short}.{name}": getattr(module, name) for name in getattr(module, "__all__", ())}
  return {name: each for name, each in found.items() if callable(each)}


PUBLIC = public_names()


def example_of(each):
  """Return the code below "Example:" in a docstring; "" where there is none."""
  found = re.search(r"^Example:\n((?:  .*\n|\n)+)", (inspect.getdoc(each) or "") + "\n", re.MULTILINE)
  return textwrap.dedent(found[1]) if found else ""


def names_for(name):
  """Return the names that an example may use: of its package and module, and some that need no definition."""
  x = jnp.asarray(np.random.default_rng(0).integers(0, 17, (2, 8, 8, 1)), jnp.int32)
  common = {"jax": jax, "jnp": jnp, "np": np, "dataclasses": dataclasses, "gdm": gdm, "Path": Path,
            "DataSpec": DataSpec, "MLP": MLP, "UNet": UNet, "MinSNR": MinSNR, "key": jax.random.key(0),
            "spec": DataSpec((8, 8, 1), 17), "x": x, "batch": {"x": x}, "known": np.arange(64).reshape(8, 8, 1) < 32}
  path = VPLinear()
  # Of standard normal data: their mean given x_t is alpha x_t.
  common["denoiser"] = Denoiser(lambda x, t: path.alpha(t)[:, None] * x, path.alpha, path.sigma, path.log_snr,
                                path.time, path.ends)
  package = importlib.import_module(f"gdm.{name.rpartition('.')[0]}")
  return {**common, **vars(package), **vars(inspect.getmodule(PUBLIC[name]))}


def test_every_public_name_shows_an_example():
  assert [name for name, each in PUBLIC.items() if not example_of(each)] == []


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PUBLIC if name not in NOT_RUN])
def test_the_example_runs(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("GDM_STAGING_DIR", str(tmp_path / "staging"))
  code = example_of(PUBLIC[name]).replace("gs://", "memory://")  # a bucket in this process's memory
  exec(compile(code, name, "exec"), names_for(name))
