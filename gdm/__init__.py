"""Deep generative models in JAX and Flax: one contract, one train step, likelihoods that say what they are."""
