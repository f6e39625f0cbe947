"""absl binaries: train, evaluate, sample, leaderboard, speed."""
