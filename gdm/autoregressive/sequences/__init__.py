"""Autoregressive models of sequences of tokens: one model, and networks for it."""
