"""Many rates at once: grids, training as a pure function, sweeps and their results."""
