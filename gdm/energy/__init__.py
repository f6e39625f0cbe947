"""Energy-based models: probabilities up to a constant, and what that constant is between."""
