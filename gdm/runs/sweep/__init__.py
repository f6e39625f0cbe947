"""Many runs of one config: a grid of values, and jobs that train and score each point."""
