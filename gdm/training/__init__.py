"""State, step, loop, checkpoint: knows the contract and no family."""
