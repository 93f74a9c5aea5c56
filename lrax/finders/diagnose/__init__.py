"""The doctor: what a training run's curves say of its learning rate, its schedule and its decay."""
