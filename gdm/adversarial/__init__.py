"""Adversarial models: a generator of samples, trained against a critic that scores them."""
