"""Rewriting of traced functions before XLA compiles them, and options for XLA."""
