"""Noise paths from data to noise: alpha(t), sigma(t) and their log-SNR."""
