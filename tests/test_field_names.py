"""A model refuses the size 0 and a negative one of each of its fields by the field's own name in the config."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from helpers.small_models import SMALL, SOLVED

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, UserError
from gdm.runs.registry import build_model, complete

MODELS = {**SMALL, **SOLVED}
IMAGES = DataSpec((3, 3, 1), 3, num_classes=2)


def fields(settings: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
  """The numbers, and tuples of them, in a section and those within it."""
  for name, value in settings.items():
    if isinstance(value, Mapping):
      yield from fields(value, (*above, name))
    elif type(value) in (int, float) or (isinstance(value, tuple) and all(type(each) is int for each in value)):
      yield (*above, name), value


def replaced(settings: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
  name, *rest = path
  return {**settings, name: replaced(settings[name], tuple(rest), value) if rest else value}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_wrong_with_a_number_is_said_by_the_name_that_the_config_has_for_it(name):
  model, spec = MODELS[name]
  settings = complete({**model, "name": name})
  for path, value in fields(settings):
    for wrong in (0, -3):
      number = tuple(wrong for _ in value) if isinstance(value, tuple) else type(value)(wrong)
      try:
        build_model(replaced(settings, path, number), spec)
      except UserError as error:
        assert path[-1] in str(error), (path, number)


@pytest.mark.parametrize(("fields", "message"), [
    ({"prior": {"name": "gated_pixelcnn", "class_conditional": True}},
     "^model.prior, whose data the whole model makes: class_conditional is True, but the data has no labels"),
    ({"prior": {"name": "gated_pixelcnn", "network": {"widht": 4}}}, "^model.prior.network.widht is unknown"),
    ({"prior": {"name": "gated_pixelcnn", "network": {"width": 0}}}, "^model.prior, .*width is 0"),
])
def test_errors_of_a_model_within_a_model_name_it(fields, message):
  with pytest.raises(UserError, match=message):
    build_model({"name": "vqvae", **fields}, IMAGES)


@pytest.mark.parametrize(("name", "field"), [
    ("realnvp", "width"), ("flow_pp", "hidden"), ("integer_flow", "num_blocks"), ("glow", "dequantization_width"),
    ("residual_flow", "hidden")])
def test_a_flow_s_network_has_a_size_also_where_the_data_need_none(name, field):
  wrong = (0,) if field == "hidden" else 0
  for spec in (DataSpec((4, 4, 1), 3), DataSpec((4,), 3)):
    with pytest.raises(ConfigError, match=f"^{field} is "):
      build_model({"name": name, field: wrong}, spec)
