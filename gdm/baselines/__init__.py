"""Classical density models, fitted in closed form or by EM."""
