"""Which learning rate to use: finders, and what they found."""
