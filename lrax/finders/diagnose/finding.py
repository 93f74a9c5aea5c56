"""`Finding`: one thing that is wrong with a run."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

Confidence = Literal["certain", "likely", "possible"]
Number = float | int | str


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run, what shows it, and what to change.

    Attributes:
      name: What it is in a word, such as `"rate_too_high"`, for programs.
      what: What it is in a sentence.
      evidence: `{name: number or text}`, what shows it.
      at: `(first, last)`, the steps between which it shows.
      confidence: `"certain"` if the numbers leave no other reading, `"likely"` if others are rare,
        `"possible"` if the curves cannot tell it from another cause.
      advice: What to change.
      call: The call that makes the change or that would tell more, mostly one of lrax.
    """

    name: str
    what: str
    evidence: Mapping[str, Number]
    at: tuple[int, int]
    confidence: Confidence
    advice: str
    call: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, as values that JSON can hold."""
        # JSON has neither NaN nor infinity.
        evidence = {
            name: value if isinstance(value, str) or math.isfinite(value) else str(value)
            for name, value in self.evidence.items()
        }
        return {**dataclasses.asdict(self), "evidence": evidence, "at": list(self.at)}

    def __str__(self) -> str:
        first, last = self.at
        where = f"at step {first}" if first == last else f"steps {first} to {last}"
        numbers = ", ".join(f"{name} {_shown(value)}" for name, value in self.evidence.items())
        return "\n".join(
            [
                f"{self.name} ({self.confidence}), {where}: {self.what}",
                f"  evidence: {numbers}",
                f"  change:   {self.advice}",
                f"  call:     {self.call}",
            ]
        )


def _shown(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else f"{value:.3g}"
