"""The rate as optimizer state: who decides it, and how it is read and set."""
