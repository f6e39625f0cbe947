"""Likelihood over a split, reports, the leaderboard."""
