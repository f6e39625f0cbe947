"""Measurement operators: masks, blurs, downsampling, grey, projections, Fourier, Radon, quantization, compositions."""

from gdm.inverse.operators.blur import blur
from gdm.inverse.operators.composition import composed
from gdm.inverse.operators.downsampling import downsampling
from gdm.inverse.operators.fourier import fourier
from gdm.inverse.operators.grey import grey
from gdm.inverse.operators.mask import lowest_rows, mask, random_mask, region
from gdm.inverse.operators.named import OPERATORS, operator_of
from gdm.inverse.operators.operator import LinearOperator, Operator, TightOperator
from gdm.inverse.operators.projection import projection, random_projection
from gdm.inverse.operators.quantization import quantization
from gdm.inverse.operators.radon import radon

__all__ = [
    "OPERATORS", "LinearOperator", "Operator", "TightOperator", "blur", "composed", "downsampling", "fourier", "grey",
    "lowest_rows", "mask", "operator_of", "projection", "quantization", "radon", "random_mask", "random_projection",
    "region",
]
