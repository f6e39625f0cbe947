"""Normalizing flows: densities by an exact change of variables.

Models of whole data sets are NICE, RealNVP, Glow, MAF, IAF, SplineCoupling and SplineAutoregressive. `Flow` is put
together by hand of a base and bijections.
"""

from gdm.flows.base import Logistic, Mixture, Normal, Uniform
from gdm.flows.bijections.autoregressive import MaskedAutoregressive
from gdm.flows.bijections.bijection import Bijection, Chain, Inverse
from gdm.flows.bijections.coupling import Alternate, Checkerboard, Coupling, Halves
from gdm.flows.bijections.elementwise import Logit, ScaleShift, Standardize
from gdm.flows.bijections.linear import Linear, LULinear
from gdm.flows.bijections.normalization import ActNorm, BatchNorm
from gdm.flows.bijections.reshaping import Reshape, Split, Squeeze
from gdm.flows.bijections.transforms import Affine, RationalQuadratic
from gdm.flows.bijections.whitening import Whiten
from gdm.flows.flow import Flow
from gdm.flows.glow import Glow
from gdm.flows.iaf import IAF
from gdm.flows.layers import image_coupling, vector_coupling
from gdm.flows.maf import MAF
from gdm.flows.nice import NICE
from gdm.flows.realnvp import RealNVP
from gdm.flows.spline_autoregressive import SplineAutoregressive
from gdm.flows.spline_coupling import SplineCoupling

__all__ = [
    "IAF", "MAF", "NICE", "ActNorm", "Affine", "Alternate", "BatchNorm", "Bijection", "Chain", "Checkerboard",
    "Coupling", "Flow", "Glow", "Halves", "Inverse", "LULinear", "Linear", "Logistic", "Logit", "MaskedAutoregressive",
    "Mixture", "Normal", "RationalQuadratic", "RealNVP", "Reshape", "ScaleShift", "SplineAutoregressive",
    "SplineCoupling", "Split", "Squeeze", "Standardize", "Uniform", "Whiten", "image_coupling", "vector_coupling",
]
