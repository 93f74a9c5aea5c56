"""Rules that decide the rate from feedback, and transformations that guard against spikes."""

from .adgd import adgd
from .auto_cooldown import auto_cooldown, cooldown_on
from .back_off import back_off
from .barzilai_borwein import barzilai_borwein
from .clip_spikes import clip_spikes
from .critical import critical
from .greedy import greedy
from .hypergradient import hypergradient
from .kl import kl
from .plateau import plateau
from .polyak import polyak
from .restore_after_spikes import restore_after_spikes
from .skip_spikes import skip_spikes
from .velocity import velocity

__all__ = [
    "adgd",
    "auto_cooldown",
    "back_off",
    "barzilai_borwein",
    "clip_spikes",
    "cooldown_on",
    "critical",
    "greedy",
    "hypergradient",
    "kl",
    "plateau",
    "polyak",
    "restore_after_spikes",
    "skip_spikes",
    "velocity",
]
