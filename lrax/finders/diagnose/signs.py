"""`Signs`: the start, trend, noise and fall of the training loss, which all its findings use."""

import dataclasses
import functools

import numpy as np

from . import robust
from .log import Log

LEAST = 30  # records; with fewer the trend and the noise cannot be told apart
# The window of the running median is a tenth of the run, so a trend shows nothing shorter. It is at
# least 5 records wide, so that two outliers side by side do not move the median.
WINDOW = 0.1
NARROWEST = 5


@dataclasses.dataclass(frozen=True)
class Signs:
    """A run's training loss, up to the first value that is not finite.

    Differences of losses are compared with `fall` or `noise`, and lengths with the length of the
    run. So neither a factor of the loss nor the interval of the logger changes a finding.
    """

    log: Log

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """The steps of the losses."""
        return self.log.finite.steps

    @functools.cached_property
    def loss(self) -> np.ndarray:
        """The losses up to the first value that is not finite."""
        return self.log.finite.values

    @property
    def count(self) -> int:
        """The number of the losses."""
        return len(self.loss)

    @functools.cached_property
    def width(self) -> int:
        """The width of the running median, in records."""
        return max(NARROWEST, round(WINDOW * self.count)) | 1  # odd, so that it has a middle

    @functools.cached_property
    def trend(self) -> np.ndarray:
        """The running median of the loss."""
        return robust.running_median(self.loss, self.width)

    @functools.cached_property
    def noise(self) -> float:
        """The standard deviation of a record around the trend."""
        return robust.noise(self.loss)

    @functools.cached_property
    def blur(self) -> float:
        """The standard error of the trend: that of the median of a window of records."""
        # The median of normal numbers has pi / 2 times the variance of their mean.
        return float(self.noise * np.sqrt(np.pi / 2 / self.width))

    @functools.cached_property
    def start(self) -> float:
        """The loss before training: the first record. `fell` allows for its noise."""
        return float(self.loss[0])

    @functools.cached_property
    def low(self) -> int:
        """The record at which the trend is lowest."""
        return int(np.argmin(self.trend))

    @functools.cached_property
    def fall(self) -> float:
        """By how much the loss fell from the start to the lowest trend; at least 0."""
        return max(self.start - float(self.trend[self.low]), 0.0)

    @functools.cached_property
    def fell(self) -> bool:
        """Whether the fall is more than noise: above 4 standard deviations of one record."""
        # The lowest of a few dozen windows counts. Without any fall, it is 4 standard deviations
        # below the first record in one of several hundred runs.
        return self.fall > 4 * self.noise

    @functools.cached_property
    def rates(self) -> np.ndarray | None:
        """The rate at each record of the loss."""
        return self.log.at("rates", self.steps)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The steps of two records, as a finding has them."""
        return int(self.steps[first]), int(self.steps[last])
