"""What is rewritten before XLA compiles it, and what XLA is told."""
