"""`diagnose`: what a run's curves say of its learning rate, its schedule and its weight decay."""
