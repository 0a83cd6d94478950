"""Hold one runner and do what commands say: a JSON object per line in, one per line out.

A command is `{"command": name, ...}`; an answer is `{"ok": true, ...}`, or
`{"ok": false, "error": type, "message": text}` where `type` is a name in `edgeprune.errors`, or any other where the
worker itself has a bug. Paths are this process'.
The worker ends at `quit` or when its input closes, so it does not outlive whoever started it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from edgeprune.arrays import save_arrays
from edgeprune.backends import BUILD, LOAD
from edgeprune.backends.backend import Compilation, Feeds, Load, Runner
from edgeprune.errors import DataError, EdgePruneError, InputError, MissingError, ModelError
from edgeprune.measure.bandwidth import bandwidth
from edgeprune.measure.energy import measure_energy
from edgeprune.measure.latency import time_runs, warm_up
from edgeprune.measure.memory import PROC, lower_mark, peak_bytes, resident_bytes
from edgeprune.meters.meter import detect
from edgeprune.registry import resolve, unknown
from edgeprune.scenario import Scenario
from edgeprune.tensor import TensorSpec
from edgeprune.worker.probe import probe

Answer = dict[str, Any]


class Worker:
    """The state between commands: the open runner and the inputs it is timed on.

    `proc` is where Linux counts this process' memory.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._runner: Runner | None = None
        self._samples: list[Feeds] = []
        self._feeds: Iterator[Feeds] = iter(())
        self._import_bytes = 0

    def answer(self, line: str) -> Answer:
        """Do one command; whatever goes wrong becomes an answer, too."""
        try:
            return {"ok": True, **self._do(**json.loads(line))}
        except Exception as error:
            if not isinstance(error, EdgePruneError):
                traceback.print_exc()
            return {"ok": False, "error": type(error).__name__, "message": str(error)}

    def probe(self) -> Answer:
        """Describe this machine."""
        return {"environment": probe()}

    def prepare(self, backend: str) -> Answer:
        """Import a runtime, which a process does once, so that `open` tells of the model alone."""
        resolve(LOAD, backend, "runtime")
        return {}

    def open(
        self, backend: str, files: dict[str, str], options: dict[str, str], threads: int = 1, batch: int = 1
    ) -> Answer:
        """Load a variant, and let the peak of memory start from here where that is permitted.

        What a runtime builds on its device is built before. `load_ms` tells of opening alone: compiling is told apart,
        where it is a step of its own.
        """
        self.close()
        load: Load = resolve(LOAD, backend, "runtime")
        paths = {role: Path(path) for role, path in files.items()}
        built: Compilation | None = None
        if backend in BUILD:
            built = resolve(BUILD, backend, "runtime")(paths, batch=batch)
        lowered = lower_mark(self._proc)
        self._import_bytes = resident_bytes(self._proc)
        begin = perf_counter()
        self._runner = load(paths, options, threads=threads, batch=batch)
        load_ms = (perf_counter() - begin) * 1e3
        if (compilation := self._runner.compilation) is not None:
            load_ms -= compilation.ms
        told = built or compilation
        return {"load_ms": load_ms, "compilation": told and asdict(told), "mark_lowered": lowered}

    def warm(self, inputs: str, min_s: float, max_s: float) -> Answer:
        """Take the samples of an .npz file in turn from now on; time the first inference, run until it is steady."""
        self._samples = [feeds for feeds, _ in _batches(_load(inputs), self._opened.inputs)]
        self._feeds = itertools.cycle(self._samples)
        begin = perf_counter()
        self._run()
        first_ms = (perf_counter() - begin) * 1e3
        warm = warm_up(self._run, min_s=min_s, max_s=max_s)
        return {"first_inference_ms": first_ms, "runs": warm.runs, "seconds": warm.seconds, "stable": warm.stable}

    def time(self, seconds: float, least: int, most: int) -> Answer:
        """Time single inferences; with the processor time this process had, which shows whether it was disturbed."""
        begin, begin_cpu = perf_counter(), process_time()
        samples = time_runs(self._run, seconds=seconds, least=least, most=most)
        cpu_s, wall_s = process_time() - begin_cpu, perf_counter() - begin
        return {"samples_ms": [round(ms, 6) for ms in samples], "cpu_s": cpu_s, "wall_s": wall_s}

    def drive(self, scenario: dict[str, Any], seconds: float, queries: int) -> Answer:
        """Test with one of LoadGen's scenarios what was warmed up, for at least `seconds` and `queries`."""
        from edgeprune.measure.loadgen import drive

        asked, size = Scenario(**scenario), _batch_size(self._opened.inputs)
        if size != asked.batch:
            raise ModelError(f"the model takes {size} samples at a time, {asked.batch} are asked for: export it again")
        expected_ms = float(np.median(time_runs(self._run, seconds=0, least=5, most=5)))
        return asdict(drive(self._run, asked, seconds=seconds, queries=queries, expected_ms=expected_ms))

    def predict(self, inputs: str, out: str) -> Answer:
        """Run every sample of an .npz file and write every output, [N, ...], to another."""
        runner = self._opened
        outputs, samples = answers(runner, _load(inputs))
        save_arrays(out, outputs)
        return {"samples": samples}

    def check(self, samples: str, out: str) -> Answer:
        """Run the inputs in an .npz file; say how far each output is, in dB, from the one of that name in the file.

        The outputs go to another file.
        """
        runner = self._opened
        arrays, names = _load(samples), {spec.name for spec in runner.inputs}
        outputs, _ = answers(runner, {name: array for name, array in arrays.items() if name in names})
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        save_arrays(out, outputs)
        found = {name: _snr_db(arrays[name], array) for name, array in outputs.items() if name in arrays}
        return {"snr_db": found, "finite": all(bool(np.isfinite(array).all()) for array in outputs.values())}

    def evidence(self) -> Answer:
        """What the runtime says it executed."""
        return {"evidence": self._opened.evidence()}

    def profile(self, seconds: float) -> Answer:
        """The same with the time of each node, on the samples that were warmed up with."""
        return {"evidence": self._opened.profile(self._samples, seconds)}

    def bandwidth(self, sizes: list[int], threads: int) -> Answer:
        """How many bytes a second are read or copied in working sets of these many."""
        return {"bytes_per_s": bandwidth(sizes, threads)}

    def memory(self) -> Answer:
        """Peak memory since the runtime was imported, above what it took then, and what is held on a GPU."""
        return {
            "peak_bytes": max(0, peak_bytes(self._proc) - self._import_bytes),
            "import_bytes": self._import_bytes,
            "device_bytes": self._opened.device_bytes,
        }

    def energy(self, meters: list[str], seconds: float) -> Answer:
        """Joules per inference by the first of `meters` that works here, or why none does."""
        try:
            with closing(detect(meters)) as meter:
                window = measure_energy(self._run, meter, seconds=seconds)
        except MissingError as error:
            return {"energy": {"joules": None, "sensor": None, "reason": str(error)}}
        found: Answer = {"joules": window.joules_per_run, "sensor": meter.sensor, "reason": ""}
        found |= {"seconds": window.seconds, "runs": window.runs}
        return {"energy": {**found, "idle_watts": window.idle_watts, "sampling_hz": meter.sampling_hz}}

    def close(self) -> Answer:
        """Close the runner, if there is one."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        return {}

    def _do(self, command: str, **fields: Any) -> Answer:
        if command not in COMMANDS:
            raise unknown("command", command, COMMANDS)
        return COMMANDS[command](self, **fields)

    @property
    def _opened(self) -> Runner:
        if self._runner is None:
            raise InputError("nothing is open: send `open` first")
        return self._runner

    def _run(self) -> object:
        return self._opened.infer(next(self._feeds))


COMMANDS: dict[str, Callable[..., Answer]] = {
    "probe": Worker.probe,
    "prepare": Worker.prepare,
    "open": Worker.open,
    "warm": Worker.warm,
    "time": Worker.time,
    "drive": Worker.drive,
    "predict": Worker.predict,
    "check": Worker.check,
    "evidence": Worker.evidence,
    "profile": Worker.profile,
    "bandwidth": Worker.bandwidth,
    "memory": Worker.memory,
    "energy": Worker.energy,
    "close": Worker.close,
    "quit": Worker.close,
}


def answers(runner: Runner, arrays: Feeds) -> tuple[dict[str, Any], int]:
    """Every output [N, ...] by name, and N, in runs of the size that the runner was opened for."""
    size = _batch_size(runner.inputs)
    counts, done = [], []
    for feeds, valid in _batches(arrays, runner.inputs):
        counts.append(valid)
        done.append(_rows(runner.infer(feeds), size, valid))
    return {name: _joined([one[name] for one in done], name) for name in runner.output_names}, sum(counts)


def serve(commands: TextIO, replies: TextIO) -> None:
    """Answer every line of `commands` until `quit` or its end."""
    worker = Worker()
    for line in commands:
        replies.write(json.dumps(worker.answer(line)) + "\n")
        replies.flush()
        if '"quit"' in line:
            return
    worker.close()


def main() -> None:
    """Serve on stdin and stdout; what runtimes print to stdout goes to stderr, so that it cannot pass for an answer."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


def _snr_db(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """10 log10 of the signal's energy over that of the difference; -300 for other shapes, 300 for no difference."""
    if reference.shape != found.shape:
        return -300.0
    reference = reference.astype(np.float64)
    signal, noise = float(np.sum(reference**2)), float(np.sum((reference - found) ** 2))
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-60)), -300, 300))


def _load(path: str) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _batches(arrays: Feeds, inputs: Sequence[TensorSpec]) -> Iterator[tuple[Feeds, int]]:
    """Feeds of the size that the runner was opened for; the last is filled up with its own last sample.

    Beside each: how many of its rows are samples. An input without a dimension for the batch goes into all of them; so
    does a list [k] where the other inputs hold more than k samples.
    """
    size = _batch_size(inputs)
    most = max((len(array) for array in arrays.values() if array.ndim), default=0)
    whole = {
        spec.name
        for spec in inputs
        if spec.shape[:1] != (size,)
        or (spec.shape == (size,) and most > size and len(arrays.get(spec.name, ())) == size)
    }
    rows = {name: array for name, array in arrays.items() if name not in whole}
    for start in range(0, _count(rows), size):
        parts = {name: array[start : start + size] for name, array in rows.items()}
        valid = len(next(iter(parts.values())))
        filled = {name: np.concatenate([part, part[-1:].repeat(size - valid, 0)]) for name, part in parts.items()}
        yield {name: filled.get(name, array) for name, array in arrays.items()}, valid


def _batch_size(inputs: Sequence[TensorSpec]) -> int:
    """What the first input with more than one dimension leads with; only where there is none, a list tells."""
    sizes = [spec.shape[0] for spec in sorted(inputs, key=lambda spec: len(spec.shape) == 1) if spec.shape]
    if not sizes or not isinstance(sizes[0], int):
        raise ModelError("no input of the model leads with the batch: export it with one")
    return sizes[0]


def _count(rows: Feeds) -> int:
    counts = {len(array) if array.ndim else 0 for array in rows.values()}
    if len(counts) != 1 or counts == {0}:
        raise DataError(f"inputs hold {sorted(counts)} samples; each must hold the same number, and one at least")
    return counts.pop()


def _rows(outputs: Feeds, size: int, valid: int) -> Feeds:
    """What belongs to the samples, without the rows that only filled up the last batch."""
    for name, value in outputs.items():
        if value.shape[:1] != (size,):
            raise ModelError(
                f"output '{name}' is {list(value.shape)} for {size} samples: it must lead with the batch, so that each"
                " row belongs to a sample"
            )
    return {name: value[:valid] for name, value in outputs.items()}


def _joined(parts: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    if len(sizes := {part.shape[1:] for part in parts}) > 1:
        raise ModelError(f"output '{name}' has other sizes for other samples ({sorted(sizes)}): it cannot be compared")
    return np.concatenate(parts)
