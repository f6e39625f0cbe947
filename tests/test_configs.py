"""One variant name means one thing in all configs: the same data, transformed by one rule."""

import importlib
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import configs
from configs import data
from gdm.data.load import load_dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.runs import registry
from gdm.runs.registry import MODELS
from gdm.runs.settings import flatten_fields

SHARED = ("images", "sequences", "shared")  # what configs share
MODULES = [f"configs.{path.parent.name}.{path.stem}" for path in sorted(Path(configs.__file__).parent.glob("*/*.py"))
           if path.stem not in ("__init__", *SHARED)]


def variants_of(module):
  """The names that a config knows, by its error for one that it does not."""
  with pytest.raises(ConfigError, match="has no variant") as error:
    importlib.import_module(module).get_config("~")
  return re.search(r"known: (.*)\.$", str(error.value))[1].split(", ")


CASES = [(module, variant) for module in MODULES for variant in variants_of(module)]


def test_every_model_has_a_config():
  with_config = {importlib.import_module(module).get_config(variants_of(module)[0]).model.name for module in MODULES}
  assert with_config == set(MODELS) - {"product", "token_ensemble", "conditional_rbm"}  # of runs, and for frames


@pytest.mark.parametrize("module", MODULES)
def test_the_default_variant_is_one_that_is_known(module):
  assert importlib.import_module(module).get_config().data.name


def test_a_variant_of_one_name_serves_the_same_data_in_all_configs():
  served = defaultdict(lambda: defaultdict(list))
  for module, variant in CASES:
    section = importlib.import_module(module).get_config(variant).data
    served[variant][section.name, section.path, section.data_dir, tuple(section.transforms)].append(module)
  several = {variant: dict(sections) for variant, sections in served.items() if len(sections) > 1}
  assert not several
  assert set(served) == set(data.SETS)


BITS, REALS, TOKENS = DataSpec((6,), 2, num_classes=2), DataSpec((6,), None), DataSpec((64,), 65)
SPECS = {
    "digits": DataSpec((8, 8, 1), 17, num_classes=10), "binarized_digits": DataSpec((8, 8, 1), 2, num_classes=10),
    **dict.fromkeys(("digits_4x4", "binarized_mnist_4x4"), DataSpec((4, 4, 1), 2, num_classes=10)),
    "binarized_mnist": DataSpec((28, 28, 1), 2), "mnist": DataSpec((28, 28, 1), 256, num_classes=10),
    "stacked_mnist": DataSpec((28, 28, 3), 256, num_classes=1000),
    **dict.fromkeys(("cifar10", "images"), DataSpec((32, 32, 3), 256, num_classes=10)),
    "captions": DataSpec((32, 32, 3), 256, prefix_steps=5, prefix_levels=100),
    **dict.fromkeys(("adult", "dna", "mushrooms", "adult_blocks", "dna_blocks"), BITS),
    **dict.fromkeys(("jsb", "midi"), DataSpec((12, 88), 2)), "jsb_voices": DataSpec((64, 4), 82),
    "worlds": DataSpec((5, 3), None, context_dims=10),
    "pictures": DataSpec((5, 4, 6, 1), 8, num_classes=2, has_lengths=True, context_dims=10),
    **dict.fromkeys(("text", "shakespeare", "shakespeare_long"), TOKENS), "audio": DataSpec((8000,), 256),
    "spoken_digits": DataSpec((2048,), 256, num_classes=10), "jsb_events": DataSpec((320,), 89, has_lengths=True),
    "digit_sounds": DataSpec((5120,), 256, num_classes=60),
    "digit_spectrograms": DataSpec((32, 40, 1), 256, num_classes=60),
}
FILES = (BITS, REALS, TOKENS, SPECS["digits"])


def test_every_variant_builds_its_model():
  for module, variant in CASES:
    settings = importlib.import_module(module).get_config(variant).model.to_dict()
    # Files are of any kind, and a model may be of one alone; what has no spec above is a density in the plane.
    kinds = FILES if variant in ("npz", "red_wine") else (SPECS.get(variant, DataSpec((2,), None)),)
    failed = []
    for spec in kinds:
      try:
        registry.build_model(settings, spec)
      except SpecError as error:
        failed.append(str(error))
    assert len(failed) < len(kinds), (module, variant, failed)


def write_table(path, dtype, highest):
  rng = np.random.default_rng(0)
  arrays = {name: rng.integers(0, highest, (40, 3)).astype(dtype) * (1 if dtype == np.uint8 else 2.5)
            for name in ("train", "valid", "test")}
  np.savez(path, **{name: x.astype(dtype) for name, x in arrays.items()})


@pytest.mark.fast_cases("uint8-5-")
@pytest.mark.parametrize(("dtype", "highest", "changed"), [(np.float32, 50, "+standardize"), (np.uint8, 5, ""),
                                                           (np.uint8, 2, "")])
def test_real_numbers_are_standardized_in_every_family_and_nothing_else_is(tmp_path, dtype, highest, changed):
  write_table(tmp_path / "table.npz", dtype, highest)
  prints = set()
  for variant in ("npz", "red_wine"):
    for module in {module for module, known in CASES if known == variant}:
      section = importlib.import_module(module).get_config(variant).data
      dataset = load_dataset(section.name, path=str(tmp_path / "table.npz"), transforms=section.transforms)
      assert dataset.name == f"npz:table{changed}"
      assert bool(dataset.spec.blocks) == (dataset.spec.levels == 2)
      prints.add(dataset.fingerprint("test"))
  assert len(prints) == 1


def test_a_transform_with_a_question_mark_is_left_out_where_it_does_not_apply():
  plain, optional = (load_dataset("digits", transforms=names) for names in ((), ("standardize?",)))
  assert optional.name == "digits" and optional.fingerprint("test") == plain.fingerprint("test")
  assert load_dataset("toy2d:rings", transforms=("standardize?",)).name == "toy2d:rings+standardize"
  with pytest.raises(ConfigError, match="there is no transform 'standardise'; did you mean 'standardize'"):
    load_dataset("digits", transforms=("standardise?",))


@pytest.mark.parametrize(("module", "old", "new"), [("energy.rbm", "digits", "binarized_digits"),
                                                    ("baselines.table", "digits", "digits_4x4")])
def test_a_variant_that_a_config_has_not_is_named(module, old, new):
  with pytest.raises(ConfigError, match=rf"has no variant '{old}'; (did you mean '{new}'|known: .*{new})"):
    importlib.import_module(f"configs.{module}").get_config(old)


@pytest.mark.parametrize("module", MODULES)
def test_a_config_has_every_field_of_its_model_and_repeats_no_default(monkeypatch, module):
  get_config = importlib.import_module(module).get_config
  for variant in variants_of(module):
    full = get_config(variant).model.to_dict()
    plain = registry.complete({"name": full["name"]})
    assert set(full) >= set(plain)
    with monkeypatch.context() as patch:
      patch.setattr(registry, "complete", lambda settings: settings)  # leaves what the config itself says
      own = get_config(variant).model.to_dict()
    repeated = {field for field, value in flatten_fields(own).items() if flatten_fields(plain).get(field) == value}
    assert repeated <= {"name"}, variant
