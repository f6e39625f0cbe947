"""Discrete diffusion: masked diffusion, order-agnostic autoregression, D3PM."""

from gdm.discrete_diffusion.ardm import ardm
from gdm.discrete_diffusion.d3pm import D3PM, d3pm
from gdm.discrete_diffusion.ensemble import FixedOrders
from gdm.discrete_diffusion.masked import masked
from gdm.discrete_diffusion.masked_model import MaskedModel
from gdm.discrete_diffusion.maskings import ContinuousTime, LearnedTime, Masking, Orders, Steps
from gdm.discrete_diffusion.networks.perceptron import Perceptron
from gdm.discrete_diffusion.networks.residual import Residual
from gdm.discrete_diffusion.networks.transformer import BidirectionalTransformer
from gdm.discrete_diffusion.parallel import Parallel, even_counts, losses_by_masks, plan
from gdm.discrete_diffusion.schedules import CosineSchedule, LinearSchedule, PolynomialSchedule, Schedule
from gdm.discrete_diffusion.transitions import GaussianTransitions, Transitions, UniformTransitions

__all__ = [
    "D3PM",
    "BidirectionalTransformer",
    "ContinuousTime",
    "CosineSchedule",
    "FixedOrders",
    "GaussianTransitions",
    "LearnedTime",
    "LinearSchedule",
    "MaskedModel",
    "Masking",
    "Orders",
    "Parallel",
    "Perceptron",
    "PolynomialSchedule",
    "Residual",
    "Schedule",
    "Steps",
    "Transitions",
    "UniformTransitions",
    "ardm",
    "d3pm",
    "even_counts",
    "losses_by_masks",
    "masked",
    "plan",
]
