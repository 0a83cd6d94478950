"""How often `bench --compare` is right: of a network and the very same, and of one with some 3 % more work.

    python benchmarks/noise.py --same 20 --slower 10

The networks are chains of equal convolutions on the digits, one of 34, the other of 35: 2.9 % more to multiply. What is
found enters the noise floor of this machine, as any comparison does.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnx
from rich.console import Console

from edgeprune.bundle import Bundle, LayerPlan, Task, Variant, seal
from edgeprune.cli.program import Program
from edgeprune.pipeline.compare import Comparison, compare
from edgeprune.recipe import Recipe
from edgeprune.shipped import find
from edgeprune.tensor import TensorSpec

LAYERS, CHANNELS = 34, 64


def chain(root: Path, layers: int) -> Bundle:
    """A bundle of a network of so many equal convolutions with a ReLU each."""
    (root / "model").mkdir(parents=True)
    body = "".join(
        f" c{i} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r{i}, w{i}) r{i + 1} = Relu(c{i})" for i in range(layers)
    )
    text = f"""<ir_version: 8, opset_import: ["" : 20]> main (float[batch,1,8,8] x) => (float[batch,{CHANNELS},1,1] y)
        {{ r0 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) {body} y = GlobalAveragePool(r{layers}) }}"""
    model, random = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, inputs in {"w": 1, **{f"w{i}": CHANNELS for i in range(layers)}}.items():
        # positive, of such a size that the numbers neither vanish nor grow
        weight = random.uniform(0.9, 1.1, (CHANNELS, inputs, 3, 3)).astype(np.float32) / (9 * inputs)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(model, root / "model" / "model.onnx")
    (root / "target.yaml").write_text(find("targets", "cpu").read_text())
    plan = tuple(LayerPlan(f"c{i}", "Conv", f"w{i}", "fp32") for i in range(layers))
    variant = Variant("ort-fp32", "ort", "fp32", {"model": "model/model.onnx"}, {}, plan)
    core = {
        "model": root.name,
        "target": "cpu",
        "inputs": (TensorSpec("x", "float32", ("batch", 1, 8, 8)),),
        "outputs": (TensorSpec("y", "float32", ("batch", CHANNELS, 1, 1)),),
        "task": Task("classification", ("top1",)),
        "untrained": True,
        "baseline": variant,
        "variants": (),
        "seed": 0,
        "command": "benchmarks/noise.py",
        "recipe": Recipe().model_dump(mode="json", exclude_none=True),
        **{name: {} for name in ("splits", "budgets", "pruning", "assumptions", "versions")},
    }
    return seal(root, core)


def trials(same: int, slower: int, noise_root: Path, console: Console) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons of the network with itself, and with the one that has more to do, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        one, more = (chain(Path(folder) / f"chain{layers}", layers) for layers in (LAYERS, LAYERS + 1))
        found: tuple[list[Comparison], list[Comparison]] = ([], [])
        wanted = [(one, found[0])] * same + [(more, found[1])] * slower
        for index in np.random.default_rng(0).permutation(len(wanted)):
            other, kept = wanted[index]
            begin = time.monotonic()
            kept.append(compare(one, one.core.baseline, other, other.core.baseline, noise_root=noise_root))
            console.print(f"{told(kept[-1])}; {time.monotonic() - begin:.0f} s", highlight=False)
    return found


def told(one: Comparison) -> str:
    """A comparison in one line."""
    ratio = one.speedup
    name = "more" if one.b.split(":")[0] != one.a.split(":")[0] else "same"
    return f"{name}: {ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], noise {one.noise:.4f}: {one.verdict}"


@click.command(cls=Program)
@click.option("--same", default=20, show_default=True, help="Comparisons of the network with itself.")
@click.option("--slower", default=10, show_default=True, help="Comparisons with the one that has more to do.")
def main(same: int, slower: int) -> None:
    """Compare, and count how often the answer is right."""
    root = Path(os.environ.get("EDGEPRUNE_CACHE") or Path.home() / ".cache" / "edgeprune")
    equal, more = trials(same, slower, root, Console(stderr=True))
    for what, found, right in (("the same", equal, "no difference"), ("2.9 % more work", more, "slower")):
        click.echo(f"{what}: `{right}` {sum(one.verdict == right for one in found)} of {len(found)}")


if __name__ == "__main__":
    main()
