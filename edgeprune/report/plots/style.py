"""How every plot looks, and how a figure becomes an `<svg>` element."""

from __future__ import annotations

import io
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from matplotlib.figure import Figure

from edgeprune.results import Measurement

# Mid-tones that stand out from white and from near-black alike.
HUES = {"ort": "#3f83f8", "openvino": "#d9702a", "tensorrt": "#2f9e60"}
"""One per runtime."""
SPARE_HUE = "#a463d6"
BASELINE_HUE = "#8a8f98"
BITS_HUES = {32: "#8a8f98", 16: "#a463d6", 8: "#3f83f8", 4: "#2f9e60"}
"""One per width of a weight; what lies between two is the wider one's."""
INK = "#010203"
"""Stands for the page's text colour: matplotlib cannot write `currentColor`, so it is put in afterwards."""
WIDTH = 4.4
"""Inches, of a plot beside which another stands: as wide as a phone, so that its text is readable there."""
NARROW = 3.5
"""Of one of three."""
STYLE: dict[Any, Any] = {
    "figure.dpi": 72,  # as in SVG, so that what is placed by pixels stays there
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeprune",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def hue(record: Measurement) -> str:
    """Of a variant's runtime."""
    return HUES.get(record.backend, SPARE_HUE) if record.variant != "baseline" else BASELINE_HUE


def bits_hue(bits: float) -> str:
    """Of a weight's width."""
    return BITS_HUES[min(width for width in BITS_HUES if width >= min(bits, max(BITS_HUES)))]


def svg(figure: Figure, told: str) -> str:
    """The picture as an `<svg>` element that takes its ink, font and width from the page; `told` is read aloud."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z]\w*_\d+"', "", text)  # names of groups, the same in every picture of a page
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)
    return text.replace("<svg", f'<svg role="img" aria-label={quoteattr(told)}', 1)
