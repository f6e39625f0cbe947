"""Compiles models for TPUs that are not here, and says how much memory they need and what devices send to each other.

  python -m experiments.accelerators --out=FILE.json [--models=transformer,ddpm] [--topologies=v5e:2x2,v5p:2x2x1]
      [--meshes=data,fsdp,tensor] [--programs]

It needs the TPU's compiler, the package libtpu, and no TPU:

  pip install --target=libtpu --no-deps libtpu
  export TPU_LIBRARY_PATH=libtpu/libtpu/libtpu.so

One model of each family, at the size of its config, is compiled: its training step for each topology and mesh, and with
--programs also its other programs for the first topology. A line is printed for each, and FILE.json keeps what was
found; the same command goes on where it was stopped. `make check-accelerators` also exports every model for cuda and
tpu, which is the test tests/studies/test_accelerators.py.
"""

import importlib

from absl import flags

from experiments import cli
from gdm.checks import one_of
from gdm.dataspec import DataSpec
from gdm.studies.accelerators import MESHES, ModelCase, compile_all

# Config, its variant, and the data that it serves there.
MODELS = {
    "mixture": ("baselines.mixture", "binarized_mnist", DataSpec((28, 28, 1), 2)),
    "transformer": ("autoregressive.transformer", "shakespeare", DataSpec((64,), 65, has_lengths=True)),
    "glow": ("flows.glow", "digits", DataSpec((8, 8, 1), 17)),
    "ddpm": ("diffusion.ddpm", "digits", DataSpec((8, 8, 1), 17)),
    "masked": ("discrete_diffusion.masked", "shakespeare_long", DataSpec((128,), 65)),
    "ebm": ("energy.ebm", "digits", DataSpec((8, 8, 1), 17)),
    "vae": ("latent.vae", "mnist", DataSpec((28, 28, 1), 256)),
    "dcgan": ("adversarial.dcgan", "mnist", DataSpec((28, 28, 1), 256)),
    "cnn_classifier": ("discriminative.cnn_classifier", "mnist", DataSpec((28, 28, 1), 256, 10)),
}

_OUT = flags.DEFINE_string("out", None, "The file to write; what it has already is not compiled again.")
_MODELS = flags.DEFINE_list("models", list(MODELS), "Models, one of each family by default.")
_TOPOLOGIES = flags.DEFINE_list("topologies", ["v5e:2x2", "v5e:4x4", "v5p:2x2x1"], "TPU topologies.")
_MESHES = flags.DEFINE_list("meshes", ["data", "fsdp"], "How devices share a step: data, fsdp, tensor.")
_PROGRAMS = flags.DEFINE_boolean("programs", False, "Also init, log_likelihood, sample and conditional_step.")


def main() -> None:
  out = cli.require_place("out")
  for flag, known in ((_MODELS, MODELS), (_MESHES, MESHES)):
    for name in flag.value:
      one_of(f"--{flag.name}", name, tuple(known))
  cases = {}
  for name in _MODELS.value:
    place, variant, spec = MODELS[name]
    cases[name] = ModelCase(importlib.import_module(f"configs.{place}").get_config(variant), spec)
  cli.show(compile_all(cases, _TOPOLOGIES.value, _MESHES.value, out, with_programs=_PROGRAMS.value))


if __name__ == "__main__":
  cli.run(main, precise=False)
