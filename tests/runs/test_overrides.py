"""Command-line settings that name no field are answered with the field that was probably meant."""

import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.runs import defaults, registry
from gdm.runs.overrides import check_overrides


@pytest.mark.parametrize(("setting", "path"), [
    ("model.width=8", "model.network.width"),  # a field of the model's network
    ("model.mixture_size=8", "model.pixels.mixture_size"),
    ("optimizer.batch_size=8", "data.batch_size"),  # a field of another section
    ("model.network.batch_size=8", "data.batch_size"),
    ("model.network.widht=8", "width"),
])
def test_the_place_of_a_field_is_suggested(setting, path):
  config = defaults.get_config("pixelcnn_pp", {"search": {"model": {"network": {"width": (8, 16)}}}})
  with pytest.raises(ConfigError, match=rf"has no field .*; did you mean '{path}'\?"):
    check_overrides([f"--config.{setting}"], config)
  check_overrides(["--config.model.network.width=8"], config)


def test_a_field_that_is_the_networks_is_named_when_a_model_is_built():
  with pytest.raises(ConfigError, match=r"model\.width is unknown to pixelcnn; did you mean 'model\.network\.width'"):
    registry.build_model({"name": "pixelcnn", "width": 6}, DataSpec((4, 4, 1), 2))


def test_another_part_has_its_own_defaults():
  with registry.chosen({"model.encoder": "convolutional", "model.prior": "maf"}):
    config = defaults.get_config("vae")
  assert config.model.encoder.hidden == 256 and config.model.decoder.hidden == (512, 512)
  assert config.model.prior.name == "maf" and config.model.prior.num_layers == 5
  model = registry.build_model(config.model.to_dict(), DataSpec((8, 8, 1), 2))
  assert model.prior.spec == DataSpec((32,), None)  # what the prior models are the latents
