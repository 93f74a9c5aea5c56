"""What is trained: `Task`, batch sources, and small tasks on real data that need no download."""

from .images import digits
from .tabular import diabetes
from .text import char_lm

__all__ = ["char_lm", "diabetes", "digits"]
