"""What is trained: `Task`, batch sources, models of other libraries, and small tasks on real data, without download."""

from .equinox import from_equinox
from .images import digits
from .linen import from_linen
from .nnx import from_nnx
from .tabular import diabetes
from .text import char_lm

__all__ = ["char_lm", "diabetes", "digits", "from_equinox", "from_linen", "from_nnx"]
