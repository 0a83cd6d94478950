"""What a `mixed` bundle's layers were decided on: what each precision was predicted to cost, and the plans tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeprune.adapter import adapter
from edgeprune.errors import CorruptError

PREDICTED = "sensitivity.json"
TRIED = "tried.json"


@dataclass(frozen=True)
class Predicted:
    """What a layer's precision costs, all others in float."""

    method: str
    """`curvature` of the loss, or `divergence` of the answers."""
    losses: dict[str, dict[str, float]]
    """By weight initializer and precision: by how much the loss rises, in nats per sample."""


@dataclass(frozen=True)
class TriedPlan:
    """A plan whose file was made and measured."""

    chosen: bool
    predicted_loss: float
    """Rise of the loss per sample, in nats."""
    lost_points: float
    """On the samples that select, with a margin for their being few."""
    file_bytes: int
    layers: dict[str, int]
    """How many have each precision."""


def write_predicted(predicted: Predicted, folder: Path) -> None:
    """As JSON, in which equal numbers are equal bytes."""
    _write(asdict(predicted), folder / PREDICTED)


def write_tried(tried: Sequence[TriedPlan], folder: Path) -> None:
    """As JSON, in the order they were tried."""
    _write([asdict(one) for one in tried], folder / TRIED)


def read_predicted(folder: Path) -> Predicted | None:
    """What a bundle holds; None where nothing was predicted. Raises CorruptError."""
    found: Predicted | None = _read(folder / PREDICTED, Predicted)
    return found


def read_tried(folder: Path) -> tuple[TriedPlan, ...]:
    """What a bundle holds, in the order they were tried; nothing where none was. Raises CorruptError."""
    return _read(folder / TRIED, tuple[TriedPlan, ...]) or ()


def _write(record: object, path: Path) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _read(path: Path, kind: Any) -> Any:
    if not path.is_file():
        return None
    try:
        return adapter(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CorruptError(f"{path}: not what a compile wrote ({type(error).__name__}): compile again") from error
