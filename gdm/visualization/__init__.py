"""Sample grids, curves, 2-D densities."""
