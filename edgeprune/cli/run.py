"""`edgeprune run`: what a bundle answers to some samples."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--input", "input_", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Samples.")
@click.option("--variant", metavar="NAME", help="Which one.  [the bundle's default]")
@output_options
def run(bundle: Path, input_: Path, variant: str | None, output: Output) -> None:
    """Run samples through a variant on this machine.

    FILE is an image, a .txt (a text per line, of two texts a tab between them), an .npy (a tensor in the model's own
    shape, or 8-bit images [N, H, W, C]) or an .npz by input name. Images and texts get the bundle's own preprocessing.
    """
    from dataclasses import asdict

    from edgeprune.api import chosen_variant, predict
    from edgeprune.bundle import open_bundle
    from edgeprune.data.input_file import read_input
    from edgeprune.data.preprocess import read_preprocess
    from edgeprune.report.answers import best, class_scores, lines, read_labels

    opened = open_bundle(bundle)
    chosen = chosen_variant(opened, variant)
    others = [spec.name for spec in opened.core.outputs]
    feeds = read_input(input_, opened.core.inputs, read_preprocess(opened.root), others=others)
    outputs, labels = predict(opened, feeds, chosen.name), read_labels(opened.root)
    scores = class_scores(outputs, labels)
    found = {
        "bundle": str(bundle),
        "variant": chosen.name,
        "untrained": opened.core.untrained,
        "classes": None if scores is None else [[asdict(answer) for answer in one] for one in best(scores, labels)],
        "outputs": {name: values.tolist() for name, values in outputs.items()},
    }
    note = ("the weights are untrained: the answers mean nothing",) if opened.core.untrained else ()
    output.show(
        found,
        f"{chosen.name}, best classes with scores:" if scores is not None else chosen.name,
        *note,
        *lines(outputs, labels),
    )
