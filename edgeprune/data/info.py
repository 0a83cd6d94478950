"""What can be known of a data set without reading it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.data.pixels import Pixels
from edgeprune.data.tensors import Tensors
from edgeprune.data.wordpiece import Text
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION, UNJUDGED
from edgeprune.recipe import Rows

LABEL = "label"
METRICS = {
    CLASSIFICATION: ("top1",),
    REGRESSION: ("pearson", "spearman"),
    QUESTIONS: ("exact-match", "span-f1"),
    UNJUDGED: (),
}
"""How the answers to a task are scored, where the data set does not say otherwise."""


@dataclass(frozen=True)
class Hub:
    """Where a data set lies on the Hugging Face hub."""

    repository: str
    configuration: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A data set: what its rows hold, what is asked of a model, and which rows do what."""

    name: str
    columns: tuple[str, ...]
    """Those of a stored row that a model is asked about; `label` holds the answer."""
    classes: tuple[str, ...]
    """Names of the classes; none where the answer is no class."""
    preprocess: Pixels | Text | Tensors
    """What is done to its samples; text has yet to find its vocabulary, which may not be at hand."""
    splits: dict[str, Rows]
    """`train`, `calibrate`, `select`, `report`, where there are rows for them; what has another key is reported too,
    apart, and decides nothing."""
    task: str = CLASSIFICATION
    """`classification`, `regression`, `question-answering`, or `none`: only a user's metric can judge it."""
    metrics: tuple[str, ...] = ("top1",)
    """How answers are scored; budgets are judged by the first."""
    label: str | None = LABEL
    """The column of the right answers; None where there is none."""
    calibration: str | None = None
    """The name of its shipped calibration set."""
    hub: Hub | None = None
    sorted: bool = False
    """Whether rows are stored sorted by their label: then they are read in a fixed random order instead."""
