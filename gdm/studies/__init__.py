"""Studies of trained runs: what the commands ask of them, most modules with the name of their command."""
