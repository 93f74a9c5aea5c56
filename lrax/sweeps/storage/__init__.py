"""Results and checkpoints on disk."""
