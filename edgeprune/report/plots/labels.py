"""Names beside points, so that none covers a point, another name or the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
RADIUS = 4.0
"""Of a small mark, in points."""


def label(
    figure: Figure,
    axes: Axes,
    named: Sequence[tuple[str, float, float, float]],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each name beside its point (name, x, y, radius), at the first place round it where it covers nothing else.

    Nor `others`, points that have no name. Radii are in points, which are the pixels of an SVG.
    """
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    centres = [_pixels(axes, x, y) for _, x, y, _ in named]
    taken = [_square(place, radius) for place, (*_, radius) in zip(centres, named, strict=True)]
    taken += [_square(_pixels(axes, *place), RADIUS) for place in others]
    for (name, x, y, radius), (across, up) in zip(named, centres, strict=True):
        half, height = 2.45 * len(name), 9
        first = radius + 7
        places = [(dx, dy) for down in (0, 9, 18) for dy in (first + down, -first - down) for dx in (0, half, -half)]
        places += [(dx, dy) for dy in (0, 9, -9, 18, -18, 27, -27) for dx in (half + radius + 3, -half - radius - 3)]
        boxes = [
            (across + dx - half, up + dy - height / 2, across + dx + half, up + dy + height / 2) for dx, dy in places
        ]
        costs = [
            sum(_overlap(box, other) for other in taken) + _area(box) - _overlap(box, _box(frame.extents))
            for box in boxes
        ]
        best = min(range(len(places)), key=lambda index: (costs[index], index))
        taken.append(boxes[best])
        axes.annotate(name, (x, y), places[best], textcoords="offset pixels", ha="center", va="center", fontsize=8)


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _square(centre: tuple[float, float], radius: float) -> Box:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def _box(extents: Iterable[float]) -> Box:
    left, bottom, right, top = (float(one) for one in extents)
    return left, bottom, right, top


def _area(box: Box) -> float:
    return _overlap(box, box)


def _overlap(one: Box, other: Box) -> float:
    """Shared area of two boxes: left, bottom, right, top."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
