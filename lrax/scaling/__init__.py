"""Rates that transfer: what changes with the batch, the width, the depth, the length and the layer.

For a whole run, describe both settings:

- `transfer` takes the hyperparameters of one `Setting` to another by published rules, and names
  their source and where they stop being valid;
- `fit` fits a law to your own sweeps, and predicts the rate of another `Setting`.

The rules for a single quantity take numbers and return numbers. A rule that changes more than the
rate returns all that it changes:

- the batch: `linear` for SGD, `sqrt` or `adam_sde` for Adam, `ema` for a moving average and for the
  half-life of Adam's b2 in tokens;
- a batch that grows in place of a rate that decays: `batch_ramp`;
- the batch and the gradient's noise: `noise_scale` for SGD, `surge` for Adam;
- the length of the run: `horizon`, with the exponents that were published;
- weight decay: `decay_timescale`, the time over which weights are forgotten; `decay_forms` converts
  the numbers of its forms, `decay_balance` says how large weights get and how fast they turn, and
  `corrected_decay` is the last transformation of an optimizer;
- width and depth: `complete_p`.

Multipliers are trees for `lrax.scale_by_multipliers`, from shapes alone:

- layers: `layer_multipliers`;
- groups of parameters by patterns: `groups`;
- width: `mup_multipliers`, which also has the factors of weight decay, of the initial parameters
  and of the forward pass;
- `muon_multipliers`: the factors that the conventions of Muon have for each matrix;
- `table` prints what any such tree does.

From one optimizer to another:

- `matching_rate` measures the rate at which the updates of both are equally large;
- `muon_rate` converts a rate between the conventions of Muon;
- `lora` has a first rate for low-rank adapters.

`spectral_condition` is a check of weights and updates, layer by layer. `coord_check` trains at
several widths, and measures whether the outputs of layers move equally far. They do if the
multipliers are complete.

The numbers may be traced, and those of rules may have an axis of lanes. Python numbers give Python
floats in double precision, and start no device. The numbers of a `Setting` and the arguments of
`batch_ramp` must be concrete.
"""

from .batch import adam_sde, ema, linear, sqrt
from .coordinates import coord_check
from .corrected_decay import corrected_decay
from .decay import decay_timescale
from .decay_forms import decay_balance, decay_forms
from .depth import complete_p
from .fitting import fit
from .groups import groups
from .horizon import horizon
from .layers import layer_multipliers
from .lora import lora
from .matching import matching_rate
from .muon import muon_multipliers, muon_rate
from .mup import mup_multipliers
from .noise import noise_scale, surge
from .ramps import batch_ramp
from .setting import Setting
from .spectral import spectral_condition
from .table import table
from .transfer import transfer

__all__ = [
    "Setting",
    "adam_sde",
    "batch_ramp",
    "complete_p",
    "coord_check",
    "corrected_decay",
    "decay_balance",
    "decay_forms",
    "decay_timescale",
    "ema",
    "fit",
    "groups",
    "horizon",
    "layer_multipliers",
    "linear",
    "lora",
    "matching_rate",
    "muon_multipliers",
    "muon_rate",
    "mup_multipliers",
    "noise_scale",
    "spectral_condition",
    "sqrt",
    "surge",
    "table",
    "transfer",
]
