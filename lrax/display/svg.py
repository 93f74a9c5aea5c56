"""A picture of curves as SVG text, from plain arrays, for light and dark notebooks."""

import html
import itertools
from collections.abc import Sequence

import numpy as np

from .axes import Axis, counts_axis, number, rates_axis

# Each color has a contrast of at least 3 to 1 against both white and #111.
_COLORS = ("#2f7fd8", "#d9660f", "#1a936f", "#d1477a", "#8a63d2", "#a07a0b", "#0b8aa8", "#c24a3a")
# The pattern of the lines changes to the next one each time the colors start over.
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 40
_HOVERS = 60  # parts of the horizontal axis, each with its own tooltip
_LEGEND = 12  # the most entries of the legend


def svg(
    counts: np.ndarray,
    curves: Sequence[np.ndarray],
    labels: Sequence[str],
    *,
    width: int = 640,
    height: int = 240,
    log: bool = False,
) -> str:
    """Curves over the same counts as one `<svg>` element.

    Text and axes take the color of the page's text, so they are legible on light and on dark pages.
    A tooltip at the pointer shows the count and the rates, and on a curve the label of the curve.

    Args:
      counts: Ascending counts, `[n]`.
      curves: The rates of each curve at these counts, `[n]`.
      labels: A text for each curve, shown in its tooltip, and as a legend where there are several.
      width: Width in pixels; the element shrinks with a narrower page.
      height: Height in pixels, without the legend.
      log: Whether the axis of the rates is logarithmic.

    Returns:
      The text of the element.
    """
    counts = np.asarray(counts, np.float64)
    curves = [np.asarray(curve, np.float64) for curve in curves]
    x = counts_axis(float(counts[0]), float(counts[-1]), max((width - _LEFT - _RIGHT) // 80, 2))
    y = rates_axis(
        np.concatenate([*curves, []]), max((height - _TOP - _BOTTOM) // 40 + 1, 2), log=log
    )
    across = _LEFT + x.place(counts) * (width - _LEFT - _RIGHT)
    bottom = height - _BOTTOM
    several = len(curves) > 1
    shown = (
        [*labels[:_LEGEND], f"and {len(labels) - _LEGEND} more"]
        if len(labels) > _LEGEND
        else list(labels)
    )
    # The legend stands below the panel: labels of schedules are long.
    whole = height + (18 * len(shown) + 4 if several else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}"'
        f' width="{width}" height="{whole}"'
        ' role="img" fill="none" font-family="system-ui,sans-serif" font-size="11"'
        ' style="max-width:100%;height:auto;color:inherit">',
        f"<title>{_escape('; '.join(shown))}</title>",
        *_axes(x, y, width, bottom),
    ]
    for i, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        path = _path(across, _TOP + (1 - y.place(curve)) * (bottom - _TOP))
        title = f"<title>{_escape(label)}</title>"
        parts.append(f'<path d="{path}" {_stroke(i)} stroke-linejoin="round">{title}</path>')
    parts += _tooltips(counts, curves, across, bottom, width)
    if several:
        for i, label in enumerate(shown):
            at = height + 18 * i + 8
            most = (width - 60) // 6
            text = label if len(label) <= most else label[: most - 1] + "…"
            if i < _LEGEND:
                parts.append(f'<path d="M{_LEFT - 40} {at - 4}h26" {_stroke(i)}/>')
            parts.append(
                f'<text x="{_LEFT - 8}" y="{at}" fill="currentColor">{_escape(text)}</text>'
            )
    return "".join([*parts, "</svg>"])


def _axes(x: Axis, y: Axis, width: int, bottom: int) -> list[str]:
    right = width - _RIGHT
    centered = 'text-anchor="middle" fill="currentColor"'
    parts = []
    for place, label in zip(y.place(np.array(y.ticks)), y.labels, strict=True):
        at = f"{_TOP + (1 - place) * (bottom - _TOP):.1f}"
        parts.append(
            f'<path d="M{_LEFT} {at}H{right}" stroke="currentColor" stroke-opacity=".15"/>'
        )
        style = 'dy=".35em" text-anchor="end" fill="currentColor"'
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" {style}>{label}</text>')
    for place, label in zip(x.place(np.array(x.ticks)), x.labels, strict=True):
        at = f"{_LEFT + place * (right - _LEFT):.1f}"
        parts.append(f'<path d="M{at} {bottom}v4" stroke="currentColor" stroke-opacity=".6"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" {centered}>{label}</text>')
    middle = (_TOP + bottom) / 2
    parts += [
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" stroke="currentColor" stroke-opacity=".6"/>',
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 33}" {centered}>step</text>',
        f'<text transform="translate(13 {middle}) rotate(-90)" {centered}>learning rate</text>',
    ]
    return parts


def _path(across: np.ndarray, down: np.ndarray) -> str:
    """The line through points in tenths of a pixel.

    Points on a straight line between their neighbours are dropped.
    """
    # Tenths of a pixel: finer digits would only make the text of a page longer.
    points = np.round(np.stack([across, down], axis=1), 1)
    pieces = []
    for piece in np.split(points, np.flatnonzero(~np.isfinite(points[:, 1]))):
        piece = piece[np.isfinite(piece[:, 1])]
        if len(piece):
            kept = [piece[0]]
            for point, after in itertools.pairwise(piece[1:]):
                if not _between(kept[-1], point, after):
                    kept.append(point)
            kept += [piece[-1]] if len(piece) > 1 else []
            text = "L".join(f"{a:g} {b:g}" for a, b in kept)
            # A lone point needs a line of some length to be seen.
            pieces.append(f"M{text}" if len(kept) > 1 else f"M{text}h.1")
    return "".join(pieces)


def _between(before: np.ndarray, point: np.ndarray, after: np.ndarray) -> bool:
    # The two steps are parallel and the second does not turn back.
    (a, b), (c, d) = point - before, after - point
    return abs(a * d - b * c) < 1e-9 and a * c >= 0 and b * d >= 0


def _tooltips(
    counts: np.ndarray, curves: Sequence[np.ndarray], across: np.ndarray, bottom: int, width: int
) -> list[str]:
    # Invisible bars with titles give tooltips without a script. Notebooks would remove a script.
    edges = np.linspace(_LEFT, width - _RIGHT, _HOVERS + 1)
    parts = ['<g fill="transparent">']
    for left, right in itertools.pairwise(edges):
        i = int(np.argmin(np.abs(across - (left + right) / 2)))
        text = f"step {counts[i]:.0f}: " + ", ".join(number(curve[i]) for curve in curves[:_LEGEND])
        shape = f'x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{bottom - _TOP}"'
        parts.append(f"<rect {shape}><title>{text}</title></rect>")
    return [*parts, "</g>"]


def _stroke(i: int) -> str:
    dash = _DASHES[i // len(_COLORS) % len(_DASHES)]
    return f'stroke="{_COLORS[i % len(_COLORS)]}" stroke-width="1.8"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )


def _escape(text: str) -> str:
    # Characters that XML does not allow at all, such as control characters, are removed.
    return html.escape("".join(c for c in text if c.isprintable() or c == " "), quote=False)
