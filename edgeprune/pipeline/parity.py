"""Hold every variant against the float graph, and what its runtime computes against what its file says.

A file goes wrong where it is written (channels in another order, a zero point of another type), a runtime where it
computes something else from a right file (a bias in other steps than it assumes). Both run without a word, and a score
may hide it; so both are compared on the same real samples, by outputs, by the task's metric and layer by layer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import LOAD, LOWER
from edgeprune.backends.backend import Feeds
from edgeprune.bundle import Bundle, Variant
from edgeprune.errors import EdgePruneError, ModelError
from edgeprune.graph.load import read_onnx
from edgeprune.interleaved.predict import FLOAT_QDQ
from edgeprune.interleaved.settings import EvalSplit
from edgeprune.judge import Judge
from edgeprune.metrics import snr_db
from edgeprune.pipeline import departure
from edgeprune.progress import SILENT, Progress
from edgeprune.registry import resolve
from edgeprune.results import Distance, Measurement, Parity
from edgeprune.targets.target import Target
from edgeprune.worker.worker import answers

SAMPLES = 64
AT_ONCE = 16
"""Samples in one inference."""
MOST_POINTS = 5.0
"""Of the metric between a file and its runtime; of 64 samples, four answered otherwise, all of them one way."""
FILE_DB = {"fp32": 40.0, "bf16": 40.0, "fp16": 40.0}
QUANTIZED_FILE_DB, NARROW_FILE_DB = 6.0, 0.0
"""Least distance of a file from the float graph: in 8 bits, it may be wrong by half of what it says, which leaves much
room (22 dB and more in seven networks); with layers in 4 bits, what is lost is for the accuracy budget to judge."""
RUNTIME_DB = {"fp32": 40.0, "bf16": 15.0, "fp16": 25.0}
QUANTIZED_RUNTIME_DB = 10.0
"""Least distance of a runtime from its file. Where they round differently, 20 dB and more are left."""

Outputs = Mapping[str, NDArray[Any]]


def with_parity(
    records: Sequence[Measurement],
    bundle: Bundle,
    target: Target,
    split: EvalSplit,
    *,
    progress: Progress = SILENT,
) -> list[Measurement]:
    """The same, each with what became of the comparison on all samples of `split`."""
    parts = list(split.batches())
    given = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    graph = float_graph(bundle)
    said: dict[str, Outputs] = {}  # by the file's hash: several runtimes have the same in FP32

    def key(file: Path) -> str:
        return bundle.core.sha256[file.relative_to(bundle.root).as_posix()]

    def saying(file: Path) -> Outputs:
        if key(file) not in said:
            said[key(file)] = _computed({"model": file}, FLOAT_QDQ, "ort", given)
        return said[key(file)]

    found, read = [], cache(read_onnx)
    with progress.task("parity", len(records)) as task:
        for record in records:
            variant = bundle.variant(record.variant)
            own = graph if variant.name != "baseline" else None  # unpruned, it is another network than the variants'
            gate = _Gate(variant, bundle.files(variant), target, own, given, split.judge)
            alike = own is not None and key(own) == key(bundle.files(variant)["model"])
            try:
                found.append(replace(record, parity=gate.judged(saying, None if own is None or alike else read(own))))
            except EdgePruneError as error:
                told = f"not held against the float graph: {error}"
                found.append(replace(record, warnings=(*record.warnings, told)))
            task.advance(note=record.variant)
    return found


def float_graph(bundle: Bundle) -> Path | None:
    """The network of the variants in FP32, as some runtime has it; None where none has, and it is not the baseline."""
    core = bundle.core
    whole = core.baseline if core.pruning.get("pruner", "none") == "none" else None
    variant = next((one for one in core.variants if one.precision == "fp32"), whole)
    return None if variant is None else bundle.files(variant)["model"]


class _Gate:
    """One variant under comparison."""

    def __init__(
        self,
        variant: Variant,
        files: Mapping[str, Path],
        target: Target,
        graph: Path | None,
        given: Feeds,
        judge: Judge | None,
    ) -> None:
        self._variant, self._files, self._target, self._graph = variant, files, target, graph
        self._given, self._judge = given, judge
        self._layers = [layer.name for layer in variant.layers]
        self._few = {name: array[: departure.SAMPLES] if array.ndim else array for name, array in given.items()}

    def judged(self, saying: Callable[[Path], Outputs], graph: ir.Model | None) -> Parity:
        """`saying`: what a file answers, computed as it says; `graph`: the float graph, where the file is another."""
        samples = max(len(array) for array in self._given.values() if array.ndim)
        said, found = saying(self._files["model"]), self._by_runtime()
        parity = Parity(
            samples,
            file=() if self._graph is None else _distances(saying(self._graph), said),
            runtime=() if found is None else _distances(said, found),
            metric=self._judge.metrics[0].name if self._judge else "",
            file_score=self._score(said),
            runtime_score=None if found is None else self._score(found),
        )
        return replace(parity, fault=next(self._faults(parity, graph), ""))

    def _by_runtime(self) -> Outputs | None:
        """None where the runtime is not here, or refuses the file, which its measurement tells."""
        if self._variant.backend not in LOAD:
            return None
        try:
            return _computed(self._files, self._variant.options, self._variant.backend, self._given)
        except EdgePruneError:
            return None

    def _faults(self, parity: Parity, graph: ir.Model | None) -> Iterator[str]:
        """The file first, for a runtime can only be as right as that."""
        precision, backend = self._variant.precision, self._variant.backend
        if not parity.runtime:
            yield from self._refused()
        if graph is not None:
            file = read_onnx(self._files["model"])
            narrow = {layer.name for layer in self._variant.layers if layer.weight_bits < 8}
            first = departure.first_departing(departure.in_file(graph, file, self._layers, self._few), narrow)
            worst = min(parity.file, key=lambda one: one.snr_db)
            least = FILE_DB.get(precision, NARROW_FILE_DB if narrow else QUANTIZED_FILE_DB)
            if first is not None or worst.snr_db < least:
                yield f"its file says something else than the float graph: {_where(first, worst)}"
        if not parity.runtime:
            return
        worst = min(parity.runtime, key=lambda one: one.snr_db)
        lost = 100 * abs((parity.file_score or 0.0) - (parity.runtime_score or 0.0))
        if worst.snr_db < RUNTIME_DB.get(precision, QUANTIZED_RUNTIME_DB) or lost > MOST_POINTS:
            score = f", {parity.metric} by {lost:.1f} points" if lost > MOST_POINTS else ""
            yield f"{backend} computes something else than its file says: {_where(self._traced(), worst)}{score}"

    def _refused(self) -> Iterator[str]:
        """Where the runtime is not here to say so: a file that was altered may break its rules."""
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            try:
                lower = resolve(LOWER, self._variant.backend, "backend")
                lower(self._files["model"], self._target, self._variant.precision, Path(folder))
            except ModelError as error:
                yield str(error)

    def _traced(self) -> departure.Signal | None:
        """The first layer that a runtime computes otherwise; a part may be refused where the whole is not."""
        said = read_onnx(self._files["model"])
        try:
            return departure.first_departing(
                departure.in_runtime(
                    said, self._layers, self._variant.backend, self._files, self._variant.options, self._few
                )
            )
        except EdgePruneError:
            return None

    def _score(self, outputs: Outputs) -> float | None:
        if self._judge is None:
            return None
        return self._judge.metrics[0].score(self._judge.answers(outputs), self._judge.truth)


def _computed(files: Mapping[str, Path], options: Mapping[str, str], backend: str, given: Feeds) -> Outputs:
    with resolve(LOAD, backend, "runtime")(files, options, threads=1, batch=AT_ONCE) as runner:
        outputs, _ = answers(runner, {name: given[name] for name in runner.input_names})
    return outputs


def _distances(right: Outputs, found: Outputs) -> tuple[Distance, ...]:
    return tuple(_distance(name, right[name], found[name]) for name in right if name in found)


def _distance(name: str, right: NDArray[Any], found: NDArray[Any]) -> Distance:
    if right.shape != found.shape or not np.isfinite(found).all():
        return Distance(name, 1.0, -departure.MOST_DB)
    largest = float(np.max(np.abs(right - found), initial=0.0)) / max(float(np.max(np.abs(right), initial=0.0)), 1e-30)
    return Distance(name, largest, float(np.clip(snr_db(right, found), -departure.MOST_DB, departure.MOST_DB)))


def _where(first: departure.Signal | None, worst: Distance) -> str:
    layer = f"layer '{first.layer}' departs first ({first.snr_db:.0f} dB), " if first is not None else ""
    return f"{layer}output '{worst.output}' is {worst.snr_db:.0f} dB from it"
