"""Whether our loop tells the latency that others tell: of the same file, with the same input, by turns in one run.

    python benchmarks/harness.py build/resnet56-cpu build/mobilenetv2-cpu --out bench_results/harness

Beside it: the runtime timed directly, OpenVINO's benchmark_app, and LoadGen's single-stream. benchmark_app tells what
the runtime takes inside of it, without the 40 microseconds that its Python interface needs to answer. Each has a
process of its own, in another order in every restart; LoadGen and our loop take turns in one, for they differ by less
than two processes do. And what a loop alone takes, of an inference that does nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from pydantic import TypeAdapter
from rich.console import Console

from edgeprune.bundle import Bundle, Variant, open_bundle
from edgeprune.cli.program import Program
from edgeprune.measure.latency import time_runs
from edgeprune.measure.loadgen import drive
from edgeprune.metrics import Interval, order_statistic_interval
from edgeprune.results import Environment
from edgeprune.scenario import LOADGEN, Scenario
from edgeprune.transport.local import LocalTransport
from edgeprune.worker.client import Client
from edgeprune.worker.probe import probe

LEAST = 100
TURNS = 4
TYPES = {"float32": "f32", "int32": "i32", "int64": "i64"}
"""Of inputs, as benchmark_app spells them."""
SINGLE = Scenario(driver=LOADGEN)
# it refuses `-hint latency` beside the number of streams and threads, which say the same
BENCHMARK_APP = ("-hint", "none", "-api", "sync", "-nstreams", "1", "-nthreads", "1", "-infer_precision", "f32")
OPEN = {
    "ort": """
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
run = lambda: session.run(None, feeds)
""",
    "openvino": """
import openvino as ov
core = ov.Core()
graph = core.read_model(model)
graph.reshape({name: array.shape for name, array in feeds.items()})
one = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}
request = core.compile_model(graph, "CPU", one).create_infer_request()
for name, array in feeds.items():
    request.set_tensor(name, ov.Tensor(array))
run = request.infer
""",
}
"""How a runtime's own documentation has it opened."""
DIRECT = """
import json, sys, time
import numpy as np
model, inputs, seconds, least = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
feeds = dict(np.load(inputs))
{open}
for _ in range(20):
    run()
found, stop = [], time.perf_counter() + seconds
while time.perf_counter() < stop or len(found) < least:
    begin = time.perf_counter_ns()
    run()
    found.append(time.perf_counter_ns() - begin)
print(json.dumps(float(np.median(found)) * 1e-6))
"""


@dataclass(frozen=True)
class Agreement:
    """Our p50 beside that of another, from one run."""

    bundle: str
    variant: str
    other: str
    ours_ms: float
    """Medians over the restarts."""
    other_ms: float
    ratio: Interval | None
    """Ours / the other's, of the median restart; None for fewer than six."""


@dataclass(frozen=True)
class Site:
    """One variant, where all find its file and one input."""

    bundle: Bundle
    variant: Variant
    folder: Path
    seconds: float

    @property
    def model(self) -> Path:
        """The file that all open."""
        return self.bundle.files(self.variant)["model"]

    @property
    def inputs(self) -> Path:
        """One sample, as a worker reads it."""
        return self.folder / "inputs.npz"

    def write_inputs(self) -> None:
        """Leave the first sample, for benchmark_app a file for each input."""
        with np.load(self.bundle.root / "samples.npz", allow_pickle=False) as samples:
            first = {spec.name: samples[spec.name][:1] for spec in self.bundle.core.inputs}
        np.savez(self.inputs, **first)
        for name, array in first.items():
            np.save(self.folder / f"{name}.npy", array)

    def by_worker(self) -> float:
        """Milliseconds of the median inference, as a worker times it by our own loop."""
        with Client(LocalTransport(), self.variant.name) as client:
            self._open(client)
            return float(np.median(self._timed(client, self.seconds)))

    def by_turns_with_loadgen(self) -> tuple[float, float]:
        """By our own loop and by LoadGen, in one process."""
        ours, theirs = list[float](), list[float]()
        with Client(LocalTransport(), self.variant.name) as client:
            self._open(client)
            for _ in range(TURNS):
                ours += self._timed(client, self.seconds / TURNS)
                asked = {"scenario": asdict(SINGLE), "seconds": self.seconds / TURNS, "queries": LEAST}
                theirs += client.ask("drive", **asked)["latencies_ms"]
        return float(np.median(ours)), float(np.median(theirs))

    def _open(self, client: Client) -> None:
        files = {role: str(path) for role, path in self.bundle.files(self.variant).items()}
        client.ask("open", backend=self.variant.backend, files=files, options=self.variant.options, threads=1)
        client.ask("warm", inputs=str(self.inputs), min_s=0.2, max_s=2)

    def _timed(self, client: Client, seconds: float) -> list[float]:
        found: list[float] = client.ask("time", seconds=seconds, least=LEAST, most=10**6)["samples_ms"]
        return found

    def directly(self) -> float:
        """The same by the runtime alone."""
        program = DIRECT.format(open=OPEN[self.variant.backend])
        given = [str(self.model), str(self.inputs), str(self.seconds), str(LEAST)]
        return float(json.loads(_said([sys.executable, "-c", program, *given])))

    def by_benchmark_app(self) -> float:
        """The same by OpenVINO's own tool, which tells hundredths of a microsecond, or from 1 ms of a millisecond."""
        names = [spec.name for spec in self.bundle.core.inputs]
        # left to itself it takes what looks like an image for one of bytes, and puts a conversion before the model
        types = ",".join(f"{spec.name}:{TYPES[spec.dtype]}" for spec in self.bundle.core.inputs)
        shapes = {name: np.load(self.folder / f"{name}.npy").shape for name in names}
        reshaped = ",".join(f"{name}[{','.join(map(str, shape))}]" for name, shape in shapes.items())
        given = ["-m", str(self.model), "-t", str(max(1, round(self.seconds))), "-shape", reshaped, "-iop", types]
        given += ["-i", ",".join(f"{name}:{self.folder / name}.npy" for name in names)]
        tool = [str(Path(sys.executable).with_name("benchmark_app")), "-d", "CPU"]
        said = _said([*tool, *given, *BENCHMARK_APP])
        found = re.search(r"Median:\s+([\d.]+) (us|ms)", said)
        if found is None:
            raise click.ClickException(f"benchmark_app tells no median:\n{said}")
        return float(found[1]) * (1e-3 if found[2] == "us" else 1.0)

    def others(self) -> dict[str, Callable[[], float]]:
        """Whose numbers ours are held against, by name; each in a process of its own."""
        tool = {"benchmark_app": self.by_benchmark_app} if self.variant.backend == "openvino" else {}
        return {"the runtime directly": self.directly, **tool}


def _said(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(
            f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"
        )
    return done.stdout


def agreements(bundle: Bundle, name: str, restarts: int, seconds: float, console: Console) -> list[Agreement]:
    """A variant timed by us and by others, in another order each time."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(bundle, bundle.variant(name), Path(folder), seconds)
        site.write_inputs()
        contenders = {"ours": site.by_worker, **site.others()}
        alone: dict[str, list[float]] = {one: [] for one in contenders}
        turns: list[tuple[float, float]] = []
        for _ in range(restarts):
            for index in random.permutation(len(contenders)):
                one = list(contenders)[index]
                alone[one].append(contenders[one]())
            turns.append(site.by_turns_with_loadgen())
            now = ", ".join(f"{one} {times[-1]:.4f} ms" for one, times in alone.items())
            console.print(
                f"{bundle.root.name}:{name}: {now}; ours {turns[-1][0]:.4f}, LoadGen {turns[-1][1]:.4f} ms",
                highlight=False,
            )
    ours = alone.pop("ours")
    pairs = {other: (ours, times) for other, times in alone.items()}
    pairs["LoadGen"] = [one for one, _ in turns], [other for _, other in turns]
    return [
        Agreement(
            bundle.root.name,
            name,
            other,
            float(np.median(mine)),
            float(np.median(theirs)),
            order_statistic_interval(np.array(mine) / np.array(theirs)),
        )
        for other, (mine, theirs) in pairs.items()
    ]


def overheads() -> dict[str, float]:
    """Microseconds that a loop takes of an inference that does nothing: in what it tells, and in all."""
    runs = 200_000
    found, all_ms = {}, []
    for _ in range(7):
        begun = time_runs(lambda: _now(all_ms), seconds=0, least=runs // 20, most=runs)
        found.setdefault("built-in, told", []).append(1e3 * float(np.median(begun)))
        found.setdefault("built-in, in all", []).append(1e3 * float(np.median(np.diff(all_ms))))
        all_ms.clear()
        driven = drive(lambda: _now(all_ms), SINGLE, seconds=0.2, queries=LEAST, expected_ms=0.01)
        found.setdefault("LoadGen, told", []).append(1e3 * float(np.median(driven.latencies_ms)))
        found.setdefault("LoadGen, in all", []).append(1e3 * float(np.median(np.diff(all_ms))))
        all_ms.clear()
    return {name: float(np.median(us)) for name, us in found.items()}


def _now(times: list[float]) -> None:
    """An inference that does nothing but note when it was."""
    times.append(1e3 * time.perf_counter())


@click.command(cls=Program)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--variant", multiple=True, default=("ort-fp32", "openvino-fp32"), show_default=True)
@click.option("--restarts", default=12, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="That each is timed in each restart.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep what was found as JSON in this folder.")
def main(bundles: tuple[Path, ...], variant: tuple[str, ...], restarts: int, seconds: float, out: Path | None) -> None:
    """Time by turns, and print the ratios."""
    console = Console(stderr=True)
    loops = overheads()
    found = [
        one
        for path in bundles
        for name in variant
        for one in agreements(open_bundle(path.resolve()), name, restarts, seconds, console)
    ]
    click.echo(f"{'bundle':18} {'variant':14} {'beside':22} {'ours':>9} {'other':>9}  ratio")
    for one in found:
        between = f"[{one.ratio.low:.3f}, {one.ratio.high:.3f}]" if one.ratio else "(too few restarts)"
        estimate = one.ratio.estimate if one.ratio else one.ours_ms / one.other_ms
        click.echo(
            f"{one.bundle:18} {one.variant:14} {one.other:22} {one.ours_ms:9.4f} {one.other_ms:9.4f}"
            f"  {estimate:.3f} {between}"
        )
    for name, us in loops.items():
        click.echo(f"overhead: {name}: {us:.2f} us an inference")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        environment = TypeAdapter(Environment).validate_python(probe())
        content = {
            "environment": TypeAdapter(Environment).dump_python(environment, mode="json"),
            "agreements": [asdict(one) for one in found],
            "overhead_us": loops,
        }
        (out / "harness.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
