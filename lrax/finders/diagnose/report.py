"""`Findings`: the findings on a run, as a text, a table, a figure and a truth value."""

import dataclasses
import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...display import canvas
from ...display.tables import as_html
from .finding import Finding
from .log import Log, Series
from .replay import Retry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """What is wrong with a run; made by `lrax.diagnose`.

    It is true if there is a finding. Iteration gives the findings, the surest first. `print` shows
    them.

    Attributes:
      findings: The findings.
      source: What was read, in words.
      notes: What was read, what was not used, and which questions the records cannot answer.
      retry: What the replay at other rates found; None if there was no replay.
    """

    findings: tuple[Finding, ...]
    source: str
    notes: tuple[str, ...]
    retry: Retry | None
    _log: Log = dataclasses.field(repr=False)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, index: int) -> Finding:
        return self.findings[index]

    @property
    def names(self) -> list[str]:
        """The names of the findings."""
        return [finding.name for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Findings, source, notes and the replay, as values that JSON can hold."""
        return {
            "healthy": not self.findings,
            "source": self.source,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            "retry": None if self.retry is None else self.retry.to_dict(),
        }

    def __str__(self) -> str:
        steps = self._log.loss.steps
        head = f"{self.source}: {len(steps)} records of the loss, steps {_span(steps)}"
        lines = [head, self._summary()]
        for finding in self.findings:
            lines += ["", str(finding)]
        if self.retry is not None:
            lines += ["", str(self.retry)]
        return "\n".join([*lines, "", *(f"note: {note}" for note in self.notes)])

    def _summary(self) -> str:
        count = len(self.findings)
        if not count:
            return "healthy: nothing was found"
        return f"{count} finding{'s' if count > 1 else ''}: {', '.join(self.names)}"

    def __repr__(self) -> str:
        return f"Findings({', '.join(self.names) or 'healthy'}; {self.source})"

    def _repr_html_(self) -> str:
        """The findings as a table, and the figure, as a notebook shows them."""
        head = ["finding", "sure", "steps", "what", "change", "call"]
        rows = [
            [
                each.name,
                each.confidence,
                _span(np.array(each.at)),
                each.what,
                each.advice,
                each.call,
            ]
            for each in self.findings
        ]
        text = f"<p>{html.escape(self.source)}: {html.escape(self._summary())}</p>"
        text += as_html([head, *rows]) if rows else ""
        if self.retry is not None:
            text += f"<pre>{html.escape(str(self.retry))}</pre>"
        return text + canvas.as_html(self.plot)

    def plot(self) -> "Figure":
        """A figure of the curves, with the steps of each finding shaded.

        Returns:
          A matplotlib Figure. A notebook shows it if it is the value of a cell;
          `figure.savefig(path)` writes it.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        panels: list[tuple[str, list[tuple[str, Series]]]] = [
            ("loss", [("training", self._log.loss)])
        ]
        if self._log.val_loss is not None:
            panels[0][1].append(("validation", self._log.val_loss))
        if self._log.rates is not None:
            panels.append(("learning rate", [("", self._log.rates)]))
        panels += [(name, [("", series)]) for name, series in self._log.monitors.items()]
        figure = canvas.figure(7, 1.2 + 1.5 * len(panels))
        several = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, curves) in zip(several, panels, strict=True):
            for label, (steps, values) in curves:
                axes.plot(steps, np.where(np.isfinite(values), values, np.nan), lw=1, label=label)
            axes.set_ylabel(title)
            positive = [values[np.isfinite(values)] for _, (_, values) in curves]
            if title != "learning rate" and all(np.all(values > 0) for values in positive):
                axes.set_yscale("log")
                canvas.plain_numbers(axes.yaxis, decades=1.5)
            # The line around it shows a finding at a single step, whose area is empty.
            for i, finding in enumerate(self.findings):
                axes.axvspan(*finding.at, color=f"C{1 + i % 9}", alpha=0.15, lw=1)
        if len(panels[0][1]) > 1:
            several[0].legend(fontsize=8)
        several[-1].set_xlabel("step")
        several[0].set_title(self._summary(), fontsize=9)
        return figure


def _span(steps: np.ndarray) -> str:
    return f"{steps[0]:.0f} to {steps[-1]:.0f}" if len(steps) else "none"
