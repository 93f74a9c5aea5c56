"""`Setting`: the sizes of a run that its hyperparameters depend on."""

from __future__ import annotations

import dataclasses

from .. import _require

AXES = ("width", "depth", "batch", "tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    r"""The width, the depth, the batch and the length of a run, for `lrax.scaling.transfer`.

    $$m = \frac{\text{to.width}}{\text{from\_.width}}, \quad \text{and so for each field}$$

    Rules use only such ratios, so any unit will do if it is the same in both settings. Use one
    setting for the run whose hyperparameters are known, and one for the run that is planned. Omit
    what does not change: it is taken as equal.

    Args:
      width: The width of the network, such as the size of the residual stream; above 0.
      depth: The number of residual blocks, above 0.
      batch: The batch size over all devices and accumulation steps, in examples or tokens; above 0.
      tokens: The length of the whole run, in tokens or examples; above 0.

    Returns:
      A `Setting`, frozen, with a field for each argument.

    Raises:
      ValueError: if a number is not finite and positive.
      TypeError: if an argument is neither a concrete real number nor None.

    Example:
      >>> small = lrax.scaling.Setting(width=256, depth=4, batch=64, tokens=2e8)
      >>> small.width
      256
    """

    width: float | None = None
    depth: float | None = None
    batch: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for name in AXES:
            value = getattr(self, name)
            if value is not None:
                _require.positive({name: _require.number(name, value)}, name)
