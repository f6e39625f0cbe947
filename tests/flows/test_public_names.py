"""What gdm.flows offers: importable, documented, with arguments in one order everywhere."""

import inspect
import itertools

import pytest

import gdm

ORDER = ("partition", "transform", "conditioner", "hidden", "width", "num_blocks", "ordering", "context", "residual",
         "activation", "dropout", "weight_init", "output_scale")
MODELS = ("Flow", "NICE", "RealNVP", "Glow", "MAF", "IAF", "SplineCoupling", "SplineAutoregressive", "FlowPP", "FFJORD",
          "ResidualFlow", "IntegerFlow")


@pytest.mark.parametrize("name", gdm.flows.__all__)
def test_arguments_come_in_one_order(name):
  parameters = [each for each in inspect.signature(getattr(gdm.flows, name)).parameters if each in ORDER]
  if name in MODELS:
    return  # models: their fields are set by name
  places = [ORDER.index(each) for each in parameters]
  assert all(one < other for one, other in itertools.pairwise(places)), parameters


@pytest.mark.parametrize("name", gdm.flows.__all__)
def test_everything_public_is_documented(name):
  assert inspect.getdoc(getattr(gdm.flows, name))


@pytest.mark.parametrize("name", MODELS)
def test_models_show_an_example(name):
  assert "Example:" in getattr(gdm.flows, name).__doc__
