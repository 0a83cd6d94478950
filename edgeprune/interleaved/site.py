"""A device with the files of a bundle, and what its workers are told: where one cannot, the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.arrays import save_arrays
from edgeprune.bundle import Bundle, Variant
from edgeprune.errors import EdgePruneError
from edgeprune.interleaved.found import Found
from edgeprune.interleaved.settings import EvalSplit, Settings
from edgeprune.transport.transport import Transport
from edgeprune.worker.client import Client

WARM_SAMPLES = 8
"""Real inputs that are timed in turn."""


@dataclass(frozen=True)
class Site:
    """A device, reached through `transport`, that gets the bundle's files and the inputs."""

    bundle: Bundle
    splits: Sequence[EvalSplit]
    settings: Settings
    threads: int
    transport: Transport
    folder: Path

    def push(self, variants: Sequence[Variant]) -> None:
        """Bring the variants' files there, and the inputs that are timed."""
        for variant in variants:
            for role, path in self.bundle.files(variant).items():
                self.transport.push(path, variant.files[role])
        first = next(self.splits[0].batches())
        rows = max(WARM_SAMPLES, self.settings.scenario.batch)
        self.push_inputs({name: array[:rows] for name, array in first.items()}, self.inputs())

    @staticmethod
    def inputs(split: str = "") -> str:
        """Where a split's inputs lie there; without a name, those that are timed."""
        return f"inputs-{split}.npz"

    def client(self, name: str) -> Client:
        """A worker there, for the variant of that name."""
        return Client(self.transport, name, timeout_s=self.settings.timeout_s)

    def pull_outputs(self, remote: str) -> dict[str, NDArray[Any]]:
        """The outputs [N, ...] by name that `predict` left."""
        local = self.folder / "outputs.npz"
        self.transport.pull(remote, local)
        with np.load(local, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def push_inputs(self, inputs: Mapping[str, Any], remote: str) -> None:
        """Bring arrays by input name there, under a name."""
        local = self.folder / "inputs.npz"
        save_arrays(local, inputs)
        self.transport.push(local, remote)


def each(running: Sequence[tuple[Found, Client]], do: Callable[[Found, Client], object]) -> None:
    """Have every variant do it that has not given up; what one cannot do is its record, and the others go on.

    Where it is the baseline, whatever it raises is raised.
    """
    for one, client in running:
        if one.unmeasured:
            continue
        try:
            do(one, client)
        except EdgePruneError as error:
            if one.is_baseline:
                raise
            one.give_up(error)


def open_variant(variant: Variant, client: Client, threads: int, batch: int = 1) -> dict[str, Any]:
    """Have a worker open a variant's files; what it says of that."""
    return client.ask(
        "open", backend=variant.backend, files=variant.files, options=variant.options, threads=threads, batch=batch
    )
