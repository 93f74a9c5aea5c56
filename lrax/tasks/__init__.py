"""Small tasks on real data that need no download, and adapters for models of other libraries."""

from .adapters.equinox import from_equinox
from .adapters.linen import from_linen
from .adapters.nnx import from_nnx
from .images import digits
from .tabular import diabetes
from .text import char_lm

__all__ = ["char_lm", "diabetes", "digits", "from_equinox", "from_linen", "from_nnx"]
