"""How many updates a segment has: as many as take a short time, by the clock.

The results of a sweep do not depend on this number.
"""

import numpy as np

from .chunks import Chunks

# Seconds that a segment should take: the time between two progress reports, and until Ctrl-C is
# answered. If a thread has more than `MANY` chunks, a segment takes longer in proportion, by a
# factor of at most `LONGEST`, so that the call of each chunk does not become too short.
SECONDS_PER_SEGMENT, MANY, LONGEST = 0.3, 5, 16
STRETCH = 1.5  # a segment may be longer by this factor, to end where the host has work to do
FEW = 2  # if a thread has more chunks than this, one chunk is timed before the first segment
SLOW = 2e9  # operations a second: a low guess for any device, to size the first segment


def first_length(chunks: Chunks, done: int, until: int) -> float:
    """Updates of the first segment, for which there is no earlier segment to time.

    Their number is estimated from XLA's count of operations. Without a count, the first segment has
    one update, and each later one at most 8 times as many as the one before. Such short segments
    take much of the time of a short sweep.

    Args:
      chunks: What is trained.
      done: Updates made.
      until: After how many updates the training ends.
    """
    engine = chunks.engine
    # The operations of one update, because XLA counts the body of the loop over updates once.
    operations = engine.programs.train.flops
    if operations is None:
        return 1.0
    seconds, of_thread = _seconds(chunks), _of_thread(chunks)
    length = max(seconds * SLOW / (operations * of_thread), 1.0)
    left = until - done
    if length >= left or of_thread <= FEW or engine.feed.streamed:
        return length
    # `SLOW` makes this a low estimate, and a short segment costs one more call of each of many
    # chunks. So one chunk is timed for some updates, which takes little time compared with the
    # training of all chunks.
    pace = chunks.seconds_per_update(done, min(left / 10, length * of_thread))
    return max(seconds / (pace * of_thread), 1.0)


def next_length(chunks: Chunks, count: int, length: float, took: float) -> float:
    """Updates that the next segment should have by the clock.

    Args:
      chunks: What is trained.
      count: Updates of the segment that was just trained.
      length: What this function, or `first_length`, returned last.
      took: Seconds that the segment took.
    """
    if not chunks.parts:  # this process has no points left: other processes set the length
        return np.inf
    # At most 8 times the updates of the last segment, because the first segments include work that
    # is done only once and makes them slow. If the last segment was cut short, by an evaluation for
    # instance, the last `length` is still allowed.
    wanted = count * _seconds(chunks) / max(took, 1e-9)
    return float(np.clip(wanted, 1, 8 * max(count, length / 8)))


def updates(length: float, left: int) -> int:
    """How many updates a segment has: about `length`, and at most `left`."""
    # If few updates remain, they join this segment: a segment of their own would cost one more call
    # of each chunk.
    return left if left < STRETCH * length else max(int(length), 1)


def _seconds(chunks: Chunks) -> float:
    """The seconds that a segment should take."""
    return SECONDS_PER_SEGMENT * min(max(_of_thread(chunks) / MANY, 1), LONGEST)


def _of_thread(chunks: Chunks) -> float:
    """The number of chunks of each thread, at least 1."""
    return max(len(chunks.layout.chunks) / max(chunks.engine.plan.threads, 1), 1)
