"""Normalizing flows: densities by an exact change of variables.

Models of whole data sets are NICE, RealNVP, Glow, MAF, IAF, SplineCoupling, SplineAutoregressive, FlowPP,
FFJORD and ResidualFlow, of integers IntegerFlow. `Flow` is put together by hand of a base and bijections.
"""

from gdm.flows.base import Logistic, MixtureOfNormals, Normal, Uniform
from gdm.flows.bijections.autoregressive import MaskedAutoregressive
from gdm.flows.bijections.bijection import Bijection, Chain, Inverse
from gdm.flows.bijections.continuous import Continuous
from gdm.flows.bijections.coupling import Alternate, Checkerboard, Coupling, Halves
from gdm.flows.bijections.elementwise import Logit, ScaleShift, Standardize
from gdm.flows.bijections.linear import InvertibleLinear, LULinear
from gdm.flows.bijections.logistic_mixture import LogisticMixtureCDF
from gdm.flows.bijections.normalization import ActNorm, BatchNorm
from gdm.flows.bijections.reshaping import Reshape, Split, Squeeze
from gdm.flows.bijections.residual import Contraction, InvertibleResidual
from gdm.flows.bijections.transforms import Affine, RationalQuadratic
from gdm.flows.bijections.whitening import Whiten
from gdm.flows.ffjord import FFJORD
from gdm.flows.flow import Flow
from gdm.flows.flow_pp import FlowPP
from gdm.flows.glow import Glow
from gdm.flows.iaf import IAF
from gdm.flows.integer_flow import IntegerFlow
from gdm.flows.layers import image_coupling, vector_coupling
from gdm.flows.maf import MAF
from gdm.flows.nice import NICE
from gdm.flows.realnvp import RealNVP
from gdm.flows.residual_flow import ResidualFlow
from gdm.flows.spline_autoregressive import SplineAutoregressive
from gdm.flows.spline_coupling import SplineCoupling

__all__ = [
    "FFJORD",
    "IAF",
    "MAF",
    "NICE",
    "ActNorm",
    "Affine",
    "Alternate",
    "BatchNorm",
    "Bijection",
    "Chain",
    "Checkerboard",
    "Continuous",
    "Contraction",
    "Coupling",
    "Flow",
    "FlowPP",
    "Glow",
    "Halves",
    "IntegerFlow",
    "Inverse",
    "InvertibleLinear",
    "InvertibleResidual",
    "LULinear",
    "Logistic",
    "LogisticMixtureCDF",
    "Logit",
    "MaskedAutoregressive",
    "MixtureOfNormals",
    "Normal",
    "RationalQuadratic",
    "RealNVP",
    "Reshape",
    "ResidualFlow",
    "ScaleShift",
    "SplineAutoregressive",
    "SplineCoupling",
    "Split",
    "Squeeze",
    "Standardize",
    "Uniform",
    "Whiten",
    "image_coupling",
    "vector_coupling",
]
