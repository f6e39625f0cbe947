"""What holds for every autoregressive model of images: exact, causal, and the same in one pass or pixel by pixel."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import assert_completions_match, assert_samples_match, assert_sums_to_one, log_probs, states_of
from helpers.image_models import COLOUR, GREY, LARGER, LARGER_COLOUR, SMALL, build, image_model
from helpers.token_models import (
  assert_every_parameter_moves,
  assert_samples_are_the_naive_ones,
  by_steps,
  dependence,
  in_one_pass,
  some,
  train,
)

from gdm.autoregressive.images.image_model import ImageModel
from gdm.autoregressive.images.pixelcnn import PixelCNN
from gdm.autoregressive.images.pixels import LogisticPixels
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.model import HasComplete, HasConditionals, HasLogLikelihood, HasSample, Model
from gdm.networks.from_data import is_from_data
from gdm.runs import registry

KEY = jax.random.key(0)
# Of those whose every value sees all values before it: fields with which no rectifier hides that.
SEES_ALL = {
    "gated_pixelcnn": {"width": 12, "skip_width": 24, "num_layers": 5},
    "pixelsnail": {"width": 12, "head_width": 24},
}
each_model = pytest.mark.parametrize("name", SMALL)
# What the models share is much the same code: the fast tier takes one of them.
first_and_slowly_others = pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if i else ()) for i, name in enumerate(SMALL)])


def of_each(names, grey, colour, others_are_slow=False):
  """Each model and space; colour says more, so the fast tier takes grey for the first model alone."""
  return pytest.mark.parametrize(("name", "spec"), [
      pytest.param(name, spec, id=f"{name}-{kind}",
                   marks=pytest.mark.slow if i and (others_are_slow or spec is grey) else ())
      for i, name in enumerate(names) for kind, spec in (("grey", grey), ("colour", colour))])


each_of_each_image = of_each(SMALL, LARGER, LARGER_COLOUR)
each_in_each_space, slowly_in_each_space = of_each(SMALL, GREY, COLOUR), of_each(SMALL, GREY, COLOUR, True)
slowly_of_each_image = of_each(SMALL, LARGER, LARGER_COLOUR, True)


@pytest.mark.fast_cases("row_lstm")
@each_model
def test_is_a_model_of_known_capabilities(name):
  for protocol in (Model, HasLogLikelihood, HasSample, HasComplete, HasConditionals):
    assert isinstance(build(name, GREY)[0], protocol)


@pytest.mark.slow
@each_in_each_space
def test_sums_to_one_and_samples_match(name, spec):
  assert_sums_to_one(*build(name, spec))
  assert_samples_match(*build(name, spec), jax.random.key(2), num=10_000)


@pytest.mark.slow  # 4^12 images
@each_model
def test_all_colour_images_of_four_levels_sum_to_one(name):
  spec = DataSpec((2, 2, 3), 4)
  model, params, carry = build(name, spec)
  num, at_once = spec.levels**spec.num_dims, 2**16

  @jax.jit
  def probability(first):
    index = first + jnp.arange(at_once)
    x = (index[:, None] >> (2 * jnp.arange(spec.num_dims))) % spec.levels
    return jnp.sum(jnp.exp(model.log_likelihood(params, carry, {"x": x.reshape(-1, *spec.event)}, KEY).nats))

  total = sum(float(probability(first)) for first in range(0, num, at_once))
  np.testing.assert_allclose(total, 1.0, rtol=1e-4)


@pytest.mark.fast_cases("pixelcnn-grey")
@slowly_in_each_space
def test_each_conditional_sums_to_one_and_their_product_is_the_joint(name, spec):
  model, params, carry = build(name, spec)
  states = jnp.asarray(states_of(spec))
  steps = np.asarray(jax.nn.log_softmax(by_steps(model, params, states)))
  np.testing.assert_allclose(np.exp(steps).sum(-1), 1.0, rtol=1e-5)
  joint = np.take_along_axis(steps, np.asarray(states).reshape(len(states), -1, 1), -1)[..., 0].sum(-1)
  np.testing.assert_allclose(joint, log_probs(model, params, carry, states), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@slowly_in_each_space
def test_completions_match_the_enumerated_conditionals(name, spec):
  num_known = 2 if spec is GREY else 5
  known = (np.arange(spec.num_dims) < num_known).reshape(spec.event)
  assert_completions_match(*build(name, spec), jax.random.key(3), np.ones(spec.event, int), known, 5000)
  with pytest.raises(SpecError, match=f"position {num_known} is known, but position 0 is not"):
    model, params, carry = build(name, spec)
    model.complete(params, carry, KEY, np.zeros((1, *spec.event), int), ~known)


@pytest.mark.fast_cases("pixelcnn-grey")
@each_of_each_image
def test_steps_give_the_logits_of_one_pass(name, spec):
  model, params, _ = build(name, spec, first_size=5)
  x = some(spec)
  np.testing.assert_allclose(by_steps(model, params, x), in_one_pass(model, params, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "spec"), [
    pytest.param("gated_pixelcnn", LARGER, marks=pytest.mark.slow), ("gated_pixelcnn", LARGER_COLOUR),
    *(pytest.param("pixelsnail", spec, marks=pytest.mark.slow) for spec in (LARGER, LARGER_COLOUR))])
@pytest.mark.parametrize("num_steps", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_logits_depend_on_everything_that_comes_before_and_on_nothing_else(name, spec, num_steps):
  model, params, carry = build(name, spec, **SEES_ALL[name])
  params = train(model, params, carry, num_steps)
  seen = dependence(model, params, some(spec, 24)) > 0
  np.testing.assert_array_equal(seen, np.tri(spec.num_dims, k=-1, dtype=bool))


# Registry name -> wider fields; the mask of each layer, "" where all channels are seen; and how many pixels layers see,
# one unless named. The first convolution sees its own pixel too where there are colours.
LAYERS = {
    "pixelcnn": ({"width": 24, "head_width": 24},
                 {"first": "A", "narrow": "B", "convolution": "B", "widen": "B", "hidden": "B", "readout": "B"},
                 {"first": 4, "convolution": 5}),
    "gated_pixelcnn": ({"width": 12, "skip_width": 24, "num_layers": 2},
                       {"vertical": "", "across": "", "horizontal": "B", "to_skip": "B", "to_residual": "B",
                        "hidden": "B", "readout": "B"}, {"vertical": 6, "horizontal": 2}),
    "pixelsnail": ({"width": 12, "heads": 6, "head_width": 24},
                   {"first": "A", "convolution": "B", "gates": "B", "query": "B", "key": "", "value": "",
                    "key_of_code": "", "value_of_code": "", "out": "B", "hidden": "B", "readout": "B"},
                   {"first": 4, "convolution": 5}),
    "row_lstm": ({"width": 12, "head_width": 24},
                 {"first": "A", "of_inputs": "B", "layers_0": "", "layers_1": "", "to_residual": "B", "hidden": "B",
                  "readout": "B"}, {"first": 4, "of_inputs": 2, "layers_0": 3, "layers_1": 3}),
    "diagonal_bilstm": ({"width": 12, "head_width": 24},
                        {"first": "A", "rightwards": "B", "leftwards": "", "of_codes": "", "layers_0": "",
                         "layers_1": "", "to_residual": "B", "hidden": "B", "readout": "B"},
                        {"first": 4, "layers_0": 2, "layers_1": 2}),
}


@pytest.mark.fast_cases("pixelsnail-colour")
@of_each(LAYERS, LARGER, LARGER_COLOUR)
def test_every_parameter_moves_but_those_of_masked_channels(name, spec):
  fields, masks, taps = LAYERS[name]
  in_colour = spec is LARGER_COLOUR
  taps, others = {**dict.fromkeys(masks, 1), **taps}, None
  if name == "gated_pixelcnn":  # its first layer is the first convolution
    others = {"layers_0": ({"horizontal": "A"}, {"vertical": 3, "horizontal": 1 + in_colour})}
  else:
    taps["first"] += in_colour
  assert_every_parameter_moves(image_model(name, spec, dropout=0.1, **fields), masks, taps, others)


@pytest.mark.slow
@first_and_slowly_others
def test_dropout_is_of_training_alone(name):
  model, params, carry = build(name, COLOUR)
  noisy = image_model(name, COLOUR, dropout=0.5)
  batch = {"x": some(COLOUR)}
  loss = jax.jit(lambda key: noisy.loss(params, carry, batch, key, jnp.int32(0)).loss)
  assert loss(jax.random.key(0)) != loss(jax.random.key(1))
  np.testing.assert_array_equal(log_probs(noisy, params, carry, batch["x"]),
                                log_probs(model, params, carry, batch["x"]))


@pytest.mark.slow
@slowly_of_each_image
def test_cached_samples_are_those_of_the_naive_path(name, spec):
  assert_samples_are_the_naive_ones(*build(name, spec))


@first_and_slowly_others
@pytest.mark.parametrize("levels", [2, *(pytest.param(levels, marks=pytest.mark.slow) for levels in (17, 256))])
def test_levels_of_all_kinds(name, levels):
  model, params, carry = build(name, DataSpec((3, 3, 1), levels))
  x = some(model.spec)
  assert np.isfinite(log_probs(model, params, carry, x)).all()
  assert jax.eval_shape(lambda: in_one_pass(model, params, x)).shape == (16, 9, levels)


@each_model
@pytest.mark.parametrize(("spec", "fields", "error", "message"), [
    (DataSpec((4, 4, 1), None), {}, SpecError, "needs discrete data"),
    (DataSpec((16,), 4), {}, SpecError, r"needs images .* spec.event is \(16,\)"),
    (GREY, {"first_size": 7}, ConfigError, "first_size is 7, which reaches beyond images of 2 x 2; .* at most 3"),
    (GREY, {"dropout": 1.0}, ConfigError, r"network.dropout is 1.0; it must be at least 0 and below 1"),
    (GREY, {"input_dropout": -0.1}, ConfigError, "network.input_dropout is -0.1"),
    (GREY, {"width": 0}, ConfigError, "network.width is 0; it must be at least 1"),
])
def test_fields_that_cannot_be(name, spec, fields, error, message):
  with pytest.raises(error, match=message):
    image_model(name, spec, **fields)


@pytest.mark.parametrize(("names", "spec", "fields", "message"), [
    ("pixelcnn gated_pixelcnn row_lstm diagonal_bilstm", COLOUR, {"width": 8},
     "network.width is 8; it must be a positive multiple of the image's channels, 3"),
    ("pixelcnn row_lstm diagonal_bilstm", COLOUR, {"head_width": 8}, "network.head_width is 8"),
    ("gated_pixelcnn", COLOUR, {"skip_width": 8}, "network.skip_width is 8"),
    ("pixelsnail", COLOUR, {"heads": 4},
     "network.heads is 4; it must be a positive multiple of the image's channels, 3"),
    ("pixelsnail", COLOUR, {"head_size": 0}, "network.head_size is 0; it must be at least 1"),
    ("pixelcnn gated_pixelcnn pixelsnail pixelcnn_pp row_lstm", GREY, {"kernel_size": 4},
     "network.kernel_size is 4; it must be odd"),
    ("row_lstm", LARGER, {"kernel_size": 1}, "network.kernel_size is 1; it must be odd and at least 3"),
    ("gated_pixelcnn row_lstm diagonal_bilstm", GREY, {"num_layers": 0}, "network.num_layers is 0"),
    ("pixelcnn", GREY, {"num_blocks": 0}, "network.num_blocks is 0"),
    ("pixelcnn_pp", GREY, {"num_scales": 0}, "network.num_scales is 0"),
    ("pixelcnn_pp", DataSpec((4, 6, 1), 4), {"num_scales": 3},
     "network.num_scales is 3, .* multiples of 4; images of 4 x 6 are not"),
])
def test_fields_of_some_networks_that_cannot_be(names, spec, fields, message):
  for name in names.split():
    with pytest.raises(ConfigError, match=message):
      image_model(name, spec, **fields)


def test_only_networks_that_take_labels_are_conditional_on_them():
  spec = DataSpec((2, 2, 1), 3, num_classes=2)
  with pytest.raises(SpecError, match="class_conditional is True, but PixelCNN takes no labels"):
    ImageModel(spec, PixelCNN(**SMALL["pixelcnn"]), class_conditional=True)


def test_a_network_makes_outputs_for_its_kind_of_distribution_alone():
  """A mixture over whole pixels whose outputs depended on the pixel's channels would see what it predicts."""
  with pytest.raises(SpecError, match="PixelCNN makes no outputs for LogisticPixels"):
    ImageModel(GREY, PixelCNN(**SMALL["pixelcnn"]), LogisticPixels())


@each_model
@pytest.mark.parametrize(("variant", "spec"), [("digits", DataSpec((8, 8, 1), 17)), ("npz", DataSpec((8, 8, 1), 5)),
                                               ("binarized_mnist", DataSpec((28, 28, 1), 2)),
                                               ("cifar10", DataSpec((32, 32, 3), 256))])
def test_config_names_all_fields(name, variant, spec):
  config = importlib.import_module(f"configs.autoregressive.{name}")
  settings = config.get_config(variant).model.to_dict()
  assert settings["name"] == name
  model = registry.build_model(settings, spec)
  fields = {field.name for field in dataclasses.fields(model.network) if not is_from_data(field)}
  assert {*settings["network"]} == fields - {"name", "parent"}
  with pytest.raises(ConfigError, match="did you mean 'digits'"):
    config.get_config("digit")
