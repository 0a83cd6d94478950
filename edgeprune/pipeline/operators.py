"""Time every operator of a bundle's variants as it runs in the whole network, for the latency table of this machine."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import TypeAdapter

from edgeprune.arrays import save_arrays
from edgeprune.backends import EFFECTIVE, TIMES
from edgeprune.bundle import Bundle, Variant
from edgeprune.errors import ConfigError, EdgePruneError, MissingError, OutputError
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import Operator, operators
from edgeprune.graph.pin import pinned
from edgeprune.graph.specs import tensor_specs
from edgeprune.latency_table import (
    FILE,
    Entry,
    Key,
    LatencyTable,
    Prediction,
    Timed,
    TimedVariant,
    read_table,
    write_table,
)
from edgeprune.progress import SILENT, Progress, Task
from edgeprune.quantize.allocation.latency import deciding
from edgeprune.recipe import read_yaml
from edgeprune.registry import resolve
from edgeprune.results import Environment, Layer
from edgeprune.targets.target import Target
from edgeprune.transport.local import LocalTransport
from edgeprune.transport.transport import Transport
from edgeprune.worker.client import Client
from edgeprune.worker.probe import probe

SAMPLES, INPUTS = "samples.npz", "inputs.npz"
LEAST_SHARE = 0.1
"""Of a kernel's time is its own, however much measuring adds."""


@dataclass(frozen=True)
class OperatorSettings:
    """How long is measured, of every variant."""

    restarts: int = 6
    """Processes; of what they say the median counts."""
    seconds: float = 0.6
    """In each: a half times whole inferences, before and after the other, in which the runtime times its kernels."""
    least: int = 20
    """Inferences in a slice at least."""
    most: int = 5000
    warm_min_s: float = 0.1
    warm_max_s: float = 2.0
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Raise ConfigError where nothing would be measured, or without an end."""
        if not 0 < self.seconds < math.inf or self.restarts < 1:
            raise ConfigError(f"operators are timed for a time above 0, and an end: {self.seconds} s given")


def time_operators(
    bundle: Bundle,
    *,
    settings: OperatorSettings | None = None,
    transport: Transport | None = None,
    environment: Environment | None = None,
    progress: Progress = SILENT,
) -> tuple[LatencyTable, tuple[TimedVariant, ...]]:
    """Every operator of every variant, the baseline's first, as a table and one by one.

    `transport` and `environment` are those of a device of the bundle's target; without, it is this machine.

    The runtime's own profile shares the latency of the whole network, which is timed without a profile in the same
    process, among the operators; so their sum is what an inference takes. A variant that cannot run here says why, and
    the others go on. Raises MissingError where the bundle is for another device, and the first variant's error where
    none can run.
    """
    settings = settings or OperatorSettings()
    target = target_of(bundle, here=transport is None)
    site = _Site(bundle, target.threads, settings, transport or LocalTransport())
    site.push_inputs()
    named = {one.name: one for one in (bundle.core.baseline, *bundle.core.variants)}
    found, errors = [], []
    with progress.task("operators", len(named) * settings.restarts) as task:
        for variant in named.values():
            try:
                found.append(site.time(variant, task))
            except EdgePruneError as error:
                found.append(TimedVariant(variant.name, None, (), unmeasured=str(error)))
                errors.append(error)
    if len(errors) == len(found):
        raise errors[0]
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    entries = [
        Entry(one.key, f"{bundle.sha256[:12]}:{variant.name}", one.ms, one.work, variant.network_bytes, at)
        for variant in found
        for one in variant.operators
    ]
    return replace(_empty(target, environment), entries=tuple(entries)), tuple(found)


def keep_operators(
    bundle: Bundle,
    out: Path,
    *,
    settings: OperatorSettings | None = None,
    transport: Transport | None = None,
    environment: Environment | None = None,
    progress: Progress = SILENT,
) -> tuple[Path, list[tuple[TimedVariant, Prediction | None]]]:
    """Time every operator and add them to `<out>/<target>/latency.csv`.

    Beside each variant: what the table that was there foretold of it; None where there was none. What is there and
    cannot be added to is found before anything is measured: raises CorruptError where it is damaged or of another
    schema, InputError where it is of another environment, OutputError where it cannot be written.
    """
    target = target_of(bundle, here=transport is None)
    path = out / target.name / FILE
    before = read_table(path) if path.exists() else None
    if before is not None:
        before.merged(_empty(target, environment))
    measured, found = time_operators(
        bundle, settings=settings, transport=transport, environment=environment, progress=progress
    )
    try:
        write_table(measured if before is None else before.merged(measured), path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error
    told = [(one, None if before is None or one.ms is None else one.foretold(before)) for one in found]
    return path, told


def operator_shares(
    bundle: Bundle, variant: Variant, *, settings: OperatorSettings, progress: Progress = SILENT
) -> dict[str, float]:
    """The share of an inference that each operator takes, by its name. Raises what the variant's worker raises."""
    site = _Site(bundle, target_of(bundle, here=True).threads, settings, LocalTransport())
    site.push_inputs()
    with progress.task("profile", settings.restarts) as task:
        restarts = site.restarted(variant, task)
    _, medians = _medians(variant.backend, restarts, operators(timed_graph(bundle, variant)))
    return {name: ms / sum(medians.values()) for name, ms in medians.items()}


def target_of(bundle: Bundle, *, here: bool) -> Target:
    """What a bundle is for. Raises MissingError where that must be this machine, and is not."""
    target = read_yaml(bundle.root / "target.yaml", Target)
    if here and not target.local:
        raise MissingError(f"{bundle.root}: is for {target.name}, which is not this machine: bench it there")
    return target


def _empty(target: Target, environment: Environment | None) -> LatencyTable:
    """A table of the device, or else of this machine, in which nothing stands yet."""
    environment = environment or TypeAdapter(Environment).validate_python({**probe(), "threads": target.threads})
    return LatencyTable(target.name, environment.machine, environment.fingerprint(), ())


@dataclass(frozen=True)
class _Restart:
    """What one process said."""

    ms: float
    """Of a whole inference; the median."""
    evidence: dict[str, Any]


@dataclass(frozen=True)
class _Site:
    """The machine we run on, and what is measured on it."""

    bundle: Bundle
    threads: int
    settings: OperatorSettings
    transport: Transport

    def push_inputs(self) -> None:
        """Real samples, which travel with the bundle."""
        with (
            np.load(self.bundle.root / SAMPLES, allow_pickle=False) as samples,
            tempfile.TemporaryDirectory() as folder,
        ):
            inputs: dict[str, Any] = {spec.name: samples[spec.name] for spec in self.bundle.core.inputs}
            save_arrays(Path(folder) / INPUTS, inputs)
            self.transport.push(Path(folder) / INPUTS, INPUTS)

    def restarted(self, variant: Variant, task: Task) -> list[_Restart]:
        """What every process says of one variant."""
        for role, path in self.bundle.files(variant).items():
            self.transport.push(path, variant.files[role])
        restarts = []
        for number in range(self.settings.restarts):
            restarts.append(self._restart(variant))
            task.advance(note=f"{variant.name}, restart {number + 1} of {self.settings.restarts}")
        return restarts

    def time(self, variant: Variant, task: Task) -> TimedVariant:
        """Every operator of one variant."""
        restarts, graph = self.restarted(variant, task), operators(timed_graph(self.bundle, variant))
        ms, medians = _medians(variant.backend, restarts, graph)
        scale = ms / sum(medians.values())
        layers = resolve(EFFECTIVE, variant.backend, "runtime")(restarts[0].evidence, variant.layers)
        ran = precisions(variant, layers, graph)
        network_bytes = sum(one.weight_bytes(ran[one.name]) for one in graph)
        return TimedVariant(variant.name, ms, _distinct(variant.backend, graph, medians, ran, scale), network_bytes)

    def _restart(self, variant: Variant) -> _Restart:
        half = self.settings.seconds / 2
        slices = {"seconds": half / 2, "least": self.settings.least, "most": self.settings.most}
        with Client(self.transport, variant.name, timeout_s=self.settings.timeout_s) as client:
            client.ask(
                "open", backend=variant.backend, files=variant.files, options=variant.options, threads=self.threads
            )
            client.ask("warm", inputs=INPUTS, min_s=self.settings.warm_min_s, max_s=self.settings.warm_max_s)
            before = client.ask("time", **slices)["samples_ms"]
            evidence = client.ask("profile", seconds=half)["evidence"]
            after = client.ask("time", **slices)["samples_ms"]
        return _Restart(float(np.median(before + after)), evidence)


def _medians(backend: str, restarts: Sequence[_Restart], graph: Sequence[Operator]) -> tuple[float, dict[str, float]]:
    """Of all restarts, the median inference and that of every operator in it, in milliseconds."""
    shares = [shared_out(backend, one.evidence, graph, one.ms) for one in restarts]
    medians = {one.name: float(np.median([share.get(one.name, 0.0) for share in shares])) for one in graph}
    return float(np.median([one.ms for one in restarts])), medians


def timed_graph(bundle: Bundle, variant: Variant) -> ir.Model:
    """A variant's file; dimensions that it leaves free behind the batch have the size that is timed."""
    model = read_onnx(bundle.files(variant)["model"])
    with np.load(bundle.root / SAMPLES, allow_pickle=False) as samples:
        given = [
            f"{one.name}:{one.dtype}[{','.join(map(str, (1, *samples[one.name].shape[1:])))}]"
            for one in tensor_specs(model.graph.inputs)
            if any(isinstance(size, str) for size in one.shape[1:])
        ]
    return pinned(model, given)


def shared_out(backend: str, evidence: Mapping[str, Any], graph: Sequence[Operator], ms: float) -> dict[str, float]:
    """Milliseconds by operator, `ms` in all, from a profile.

    What its kernels take longer in all than an inference does, is what measuring adds to each of them alike; but no
    more than nearly all that a kernel takes. What then is left over or missing, each has in proportion. Where the
    network is too small for the runtime's clock, all operators are equal.
    """
    kernels = evidence["nodes"]
    us = dict.fromkeys((one.name for one in graph), 1.0)
    if kernels:
        excess_us = sum(node["us"] for node in kernels) - 1e3 * ms
        added_us = max(0.0, excess_us / len(kernels))
        true = [{**node, "us": max(node["us"] - added_us, LEAST_SHARE * node["us"])} for node in kernels]
        us = resolve(TIMES, backend, "runtime")({**evidence, "nodes": true}, graph)
    scale = ms / sum(us.values())
    return {name: scale * found for name, found in us.items()}


def precisions(variant: Variant, layers: Sequence[Layer], graph: Sequence[Operator]) -> dict[str, str]:
    """By operator: what its layer ran in, or was meant to where the runtime does not tell."""
    ran = {one.name: one.intended if one.effective == "unknown" else one.effective for one in layers}
    behind = deciding(graph, {name: name for name in ran})
    real = variant.precision if variant.precision in ("fp16", "bf16") else "fp32"
    return {operator: ran.get(layer, real) for operator, layer in behind.items()}


def _distinct(
    runtime: str,
    graph: Sequence[Operator],
    ms: Mapping[str, float],
    ran: Mapping[str, str],
    scale: float,
) -> tuple[Timed, ...]:
    """Each distinct operator once, in the order of the first of its kind; their mean is its time."""
    groups: dict[Key, list[Operator]] = {}
    for one in graph:
        groups.setdefault(Key(runtime, one.kind, one.shapes, ran[one.name]), []).append(one)
    return tuple(
        Timed(
            key,
            len(alike),
            scale * float(np.mean([ms[one.name] for one in alike])),
            alike[0].work(key.precision),
            alike[0].weight_bytes(key.precision),
        )
        for key, alike in groups.items()
    )
