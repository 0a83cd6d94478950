"""What NVIDIA's compiler makes of every TensorRT variant of the zoo, on a machine without a GPU.

    python -m pip install -e '.[tensorrt-rtx]'          NVIDIA's licence, which is proprietary
    EDGEPRUNE_DATA=DIR python benchmarks/tensorrt_layers.py --out docs/tensorrt-layers.md

Weights are as they are drawn, calibrated on few samples. `backends/tensorrt/build.py` builds, as on a board, but with
the bindings of TensorRT-RTX, whose compiler needs no GPU: its layers show which kernels were chosen, and no speed.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import click
from compile_table import few_samples
from rich.console import Console

from edgeprune.backends.tensorrt.build import Log, build_engine
from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.layers import as_node
from edgeprune.backends.tensorrt.profile import effective
from edgeprune.bundle import Bundle, Variant, open_bundle
from edgeprune.cache import StageCache
from edgeprune.cli.program import Program
from edgeprune.errors import EdgePruneError, MissingError
from edgeprune.models.zoo import ZOO
from edgeprune.pipeline import assemble
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.recipe import PrunePart, QuantizePart, Recipe
from edgeprune.results import MB, Layer
from edgeprune.targets.load import load_target

BINDINGS = "tensorrt_rtx_bindings"
DATA = {"cifar10": "int8", "mnist": "int8", "glue:sst2": "int4"}
"""A model is compiled on the first of these that it takes, down to this precision: convolutions have no 4 bits here."""
NEAREST = "SM86"
"""The GPU that is nearest to a Jetson Orin's (8.7) among those that the compiler can build for."""


@dataclass(frozen=True)
class Compiled:
    """One variant of one network, as the compiler took it."""

    variant: str
    layers: tuple[Layer, ...]
    nodes: Sequence[Mapping[str, Any]]
    """Of the engine."""
    file_bytes: int
    engine_bytes: int
    seconds: float
    """Of processor time that the compiler took here: it times no kernels, as on a board it would."""


def bundled(model: str, target: str, folder: Path) -> Bundle:
    """A model of the zoo with weights as they are drawn, for a target. Raises what `compile` raises."""
    refusal: EdgePruneError | None = None
    for data, narrowest in DATA.items():
        # rounding 4-bit weights better than to the nearest changes no kernel, and takes minutes a model
        part, narrow = few_samples(data), QuantizePart(precision=narrowest, corrections=("smoothing",))
        recipe = Recipe(model=model, data=part, prune=PrunePart(pruner="none"), quantize=narrow)
        try:
            job = prepare(recipe, load_target(target), ("tensorrt",), StageCache(folder / "cache"), speed_only=True)
            assemble.place(assemble.assemble(job, stages(job)), folder / model)
            return open_bundle(folder / model)
        except EdgePruneError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def compiler() -> Any:
    """The bindings. Raises MissingError where they are not installed."""
    try:
        return importlib.import_module(BINDINGS)
    except (ImportError, OSError) as error:
        raise MissingError(f"TensorRT-RTX is missing ({error}): pip install 'edgeprune[tensorrt-rtx]'") from error


def compiled(trt: Any, files: Mapping[str, Path], variant: Variant) -> Compiled:
    """Build a variant for the nearest GPU. Raises ModelError naming the node that NVIDIA's parser refuses."""

    def configure(config: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, NEAREST), 0)

    build, log = read_build(files["build"]), Log(trt, verbose=True)
    begin = process_time()
    built = build_engine(trt, log, files["model"], build, build.for_batch(1), configure=configure)
    seconds = process_time() - begin
    nodes = [as_node(layer) for layer in logged(log.lines)]
    layers = effective({"version": f"RTX {trt.__version__}", "nodes": nodes}, variant.layers)
    sizes = files["model"].stat().st_size, len(built.engine)
    return Compiled(variant.name, layers, nodes, *sizes, seconds)


LAYER = re.compile(
    r"^Name: (?P<Name>.*?), LayerType: (?P<LayerType>.*?), Inputs: \[(?P<Inputs>.*?)\],"
    r"(?: Constants: \[(?P<Constants>.*?)\],)? Outputs: \[(?P<Outputs>.*?)\],"
    r" TacticName: (?P<TacticName>.*?), StreamId: \d+, Metadata: (?P<Metadata>.*)$",
    re.MULTILINE,
)


def logged(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Layers as the log of a detailed build lists them, in the form of the inspector's JSON."""
    for found in LAYER.finditer("\n".join(lines)):
        told: dict[str, Any] = found.groupdict("")
        for part in ("Inputs", "Constants", "Outputs"):
            told[part] = [{"Datatype": kind} for kind in re.findall(r"Datatype: (\w+)", told[part])]
        yield told


def kept(one: Compiled) -> str:
    """By intended precision: how many layers run in it, of how many."""
    intended = Counter(layer.intended for layer in one.layers)
    ran = Counter(layer.intended for layer in one.layers if layer.effective == layer.intended)
    return ", ".join(f"{kind} {ran[kind]}/{count}" for kind, count in sorted(intended.items()))


def row(model: str, one: Compiled) -> str:
    """A line of the table; kinds of layers that run otherwise are named."""
    fell = Counter(f"{layer.op} in {layer.effective}" for layer in one.layers if layer.effective != layer.intended)
    others = ", ".join(f"{count} {what}" for what, count in sorted(fell.items())) or "none"
    sizes = f"{one.file_bytes / MB:.2f} | {one.engine_bytes / MB:.2f} | {one.seconds:.1f}"
    return f"| {model} | {one.variant} | {kept(one)} | {others} | {sizes} |"


HEAD = """# What NVIDIA's compiler makes of the zoo

Every model, untrained, for `{target}`: how many of its layers with weights run in the precision they are meant for.
Compiled by TensorRT-RTX {version} for {nearest}, without a GPU, by the code that builds on a board; made by
`benchmarks/tensorrt_layers.py`. It shows what NVIDIA's parser takes and which kernels its compiler chooses. It is
another product than the TensorRT of a board, it times no kernels, and nothing here is a speed.

| model | variant | as intended | otherwise | file, MB | engine, MB | compiler, CPU s |
|---|---|---|---|---|---|---|
"""


@click.command(cls=Program)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Markdown page.")
@click.option("--target", default="jetson-orin-nano", show_default=True)
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(ZOO)), help="Repeat for more.  [all]")
def main(out: Path, target: str, models: tuple[str, ...]) -> None:
    """Compile every variant of every model; the page grows with each."""
    console = Console(stderr=True)
    try:
        trt = compiler()
    except MissingError as error:
        raise click.ClickException(str(error)) from error
    out.write_text(HEAD.format(target=target, version=trt.__version__, nearest=NEAREST), encoding="utf-8")
    for model in models or sorted(ZOO):
        with tempfile.TemporaryDirectory(prefix="edgeprune-rtx-") as folder, out.open("a", encoding="utf-8") as page:
            try:
                bundle = bundled(model, target, Path(folder))
                for variant in bundle.core.variants:
                    line = row(model, compiled(trt, bundle.files(variant), variant))
                    console.print(line)
                    page.write(line + "\n")
            except EdgePruneError as error:
                console.print(f"{model}: {error}")
                page.write(f"| {model} | none | {error} | | | | |\n")


if __name__ == "__main__":
    main()
