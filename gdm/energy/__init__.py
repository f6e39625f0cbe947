"""Energy-based models: probabilities up to a constant, and what that constant is between."""

from gdm.exports import on_demand

__getattr__, __dir__ = on_demand(__name__, {
    "ConvolutionalEnergy": "continuous.networks", "EBM": "continuous.ebm", "GaussianRBM": "continuous.gaussian_rbm",
    "Ising": "discrete.ising", "JEM": "continuous.jem", "MLPEnergy": "continuous.networks", "RBM": "discrete.rbm",
    "Tilted": "continuous.tilted",
})
