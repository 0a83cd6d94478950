"""How long an engine takes by our runner, with its copies, and by trtexec, kernels alone: on a device that has both.

    python benchmarks/trtexec_times.py build/cnn-jetson --variant tensorrt-int8

trtexec is NVIDIA's own measure. What is more than its time in ours is copies, launches and Python.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from edgeprune.backends import BUILD, LOAD
from edgeprune.backends.tensorrt import trtexec
from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.bundle import open_bundle
from edgeprune.cli.program import Program
from edgeprune.errors import EdgePruneError
from edgeprune.measure.latency import time_runs, warm_up
from edgeprune.registry import resolve

SLOWEST = 10


@click.command(cls=Program)
@click.argument("root", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--variant", default="tensorrt-int8", show_default=True)
@click.option("--seconds", default=3.0, show_default=True)
def main(root: Path, variant: str, seconds: float) -> None:
    """Build the variant's engine if it is not there, and time it both ways."""
    try:
        ours_ms, theirs_ms, by_layer = both(root, variant, seconds)
    except EdgePruneError as error:
        raise click.ClickException(str(error)) from error
    table = Table("", "inferences", "p50 ms", "p90 ms")
    for name, ms in (("our runner", ours_ms), ("trtexec", theirs_ms)):
        table.add_row(name, str(len(ms)), *(f"{np.percentile(ms, q):.3f}" for q in (50, 90)))
    slowest = Table("layer, by trtexec's profile", "us")
    for name, us in sorted(by_layer.items(), key=lambda pair: -pair[1])[:SLOWEST]:
        slowest.add_row(name, f"{us:.1f}")
    Console().print(table, slowest)


def both(root: Path, variant: str, seconds: float) -> tuple[list[float], list[float], dict[str, float]]:
    """Milliseconds of inferences by our runner and by trtexec, one after the other, and microseconds by layer."""
    bundle = open_bundle(root)
    files = bundle.files(bundle.variant(variant))
    engine = resolve(BUILD, "tensorrt", "runtime")(files, batch=1)
    with np.load(root / "samples.npz") as file:
        arrays = {name: file[name][:1] for name in file.files}
    with resolve(LOAD, "tensorrt", "runtime")(files, {}, threads=1, batch=1) as runner:
        feeds = {name: arrays[name] for name in runner.input_names}
        warm_up(lambda: runner.infer(feeds), min_s=0.2, max_s=2.0)
        ours_ms = list(time_runs(lambda: runner.infer(feeds), seconds=seconds, least=20, most=100_000))
    shapes = {name: one.opt for name, one in read_build(files["build"]).for_batch(1).items()}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        times, profile = Path(folder) / "times.json", Path(folder) / "profile.json"
        arguments = trtexec.timing_arguments(engine, shapes, seconds=seconds, times=times, profile=profile)
        trtexec.run_trtexec(arguments, engine, trtexec.find_trtexec())
        return ours_ms, trtexec.read_times(times), trtexec.read_profile(profile)


if __name__ == "__main__":
    main()
