"""What a single stage left, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.pipeline.single import Made


def shown(made: Made) -> dict[str, Any]:
    """The JSON document."""
    facts = dict(made.facts)
    if "scores" in facts:
        facts["scores"] = {
            split: {metric: asdict(value) for metric, value in scores.items()}
            for split, scores in facts["scores"].items()
        }
    return {"files": [str(path) for path in made.files], **facts}


def scored(made: Made) -> Iterator[str]:
    """A line per split and metric."""
    for split, scores in made.facts["scores"].items():
        for metric, value in scores.items():
            low, high = 100 * value.low, 100 * value.high
            yield f"{split}: {metric} {100 * value.estimate:.2f} % [{low:.2f}, {high:.2f}], in PyTorch"


def kept(pruning: dict[str, Any]) -> str:
    """A line that says what a pruner left."""
    layers, blocks, single = (pruning[name] for name in ("layers", "blocks", "connections"))
    narrower = sum(0 < one["after"] < one["before"] for one in layers)
    parts = [f"{pruning['macs_after']:,} of {pruning['macs_before']:,} multiply-accumulates"]
    parts += [f"{narrower} of {len(layers)} layers are narrower"] if narrower else []
    parts += [f"{len(blocks)} blocks are gone"] if blocks else []
    if single:
        active, all_of_them = (sum(one[name] for one in single) for name in ("after", "before"))
        parts += [f"{active:,} of {all_of_them:,} connections"]
    return f"kept: {', '.join(parts)}"
