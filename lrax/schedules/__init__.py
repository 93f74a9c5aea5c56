"""The rate as a function of the step count: open loop."""
