"""The rate as a function of feedback: rules for `lrax.scale_by_lr`."""

from .greedy import greedy
from .hypergradient import hypergradient
from .kl import kl
from .plateau import plateau
from .polyak import polyak

__all__ = ["greedy", "hypergradient", "kl", "plateau", "polyak"]
