"""What one measurement says of the rate."""

from .curves import diverged_at, smooth

__all__ = ["diverged_at", "smooth"]
