"""Keep trained weights that a published number rests on: FP16 safetensors, with seed, command and hash.

edgeprune train --recipe lstm-sst2 --out build/lstm-sst2.safetensors
python benchmarks/keep_weights.py build/lstm-sst2.safetensors --recipe lstm-sst2 --scored "top1 83.0 % (validation)"

Of a pruned network it is the folder that `edgeprune prune` wrote, or a bundle: what was cut is kept beside the weights,
and `edgeprune export --pruned FOLDER` takes both.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edgeprune.cli.program import Program
from edgeprune.errors import CorruptError
from edgeprune.file_hash import sha256_of
from edgeprune.recipe import Recipe, read_yaml
from edgeprune.shipped import find

FOLDER = Path(__file__).parent.parent / "bench_results" / "weights"
HEADING = """# Weights that published numbers rest on

Floats are stored in 16 bits; the numbers in the tables are those of these very files. Made by
`benchmarks/keep_weights.py` from what the command wrote.

| file | seed | command | score in PyTorch, before rounding | SHA-256 |
|---|---|---|---|---|
"""


@click.command(cls=Program)
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", required=True, help="The shipped recipe that they were trained by.")
@click.option("--seed", type=int, help="Another than the recipe's, which the name then ends in.")
@click.option("--scored", required=True, help="What the training said of them.")
def main(weights: Path, recipe: str, seed: int | None, scored: str) -> None:
    """Store WEIGHTS under bench_results/weights/ and list them in its README."""
    job = read_yaml(find("recipes", recipe), Recipe)
    other = "" if seed is None or seed == job.seed else f"-seed{seed}"
    name, asked = recipe + other, recipe + (other and f" --seed {seed}")
    if pruned := weights.is_dir():
        kept, command = FOLDER / name / "pruned.safetensors", f"edgeprune prune --recipe {asked} --out {name}"
        architecture, weights = weights / "architecture.json", weights / kept.name
    else:
        kept = FOLDER / f"{name}.safetensors"
        command = f"edgeprune train --recipe {asked} --out {kept.name}"
    try:
        arrays = load_file(weights)
    except SafetensorError as error:
        raise CorruptError(f"{weights}: truncated, damaged or not safetensors ({error})") from error
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in arrays.items()}, kept)
    if pruned:
        shutil.copyfile(architecture, kept.with_name(architecture.name))
    readme = FOLDER / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    rows = {found[1]: line for line in lines if (found := re.match(r"\| `([^`]+)`", line))}
    name = name if pruned else kept.name
    rows[name] = f"| `{name}` | {job.seed if seed is None else seed} | `{command}` | {scored} | `{sha256_of(kept)}` |"
    readme.write_text(HEADING + "\n".join(rows[name] for name in sorted(rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
