"""How data becomes noise: alpha(t), sigma(t) and their log-SNR."""
