"""What variants answer to all samples: on the device, or simulated on this host where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.interleaved.found import Found
from edgeprune.interleaved.site import Site, each, open_variant
from edgeprune.worker.client import Client

NO_DEVICE = "no device"
FLOAT_QDQ = {"graph_optimization": "disable"}
FLOAT_QDQ_SOURCE = "simulated (ONNX Runtime, graph optimization off, so that Q/DQ is computed in float)"
NOT_SIMULATED = {"bf16": "ONNX Runtime has no bfloat16 arithmetic on this host"}
Parts = dict[str, list[dict[str, NDArray[Any]]]]  # by variant: outputs by name, a part of the samples each


def predict(site: Site, running: Sequence[tuple[Found, Client]]) -> None:
    """Every split through every worker; they work at the same time, for nothing is timed here."""
    for split in site.splits:
        parts: Parts = {one.variant.name: [] for one, _ in running}
        for feeds in split.batches():
            site.push_inputs(feeds, site.inputs(split.name))
            each(running, partial(_ask_outputs, site, split.name))
            each(running, partial(_take_outputs, site, parts))
        for one, _ in running:
            if not one.unmeasured:
                found = parts[one.variant.name]
                one.outputs[split.name] = {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _ask_outputs(site: Site, split: str, one: Found, client: Client) -> None:
    client.send("predict", inputs=site.inputs(split), out=_outputs(one))


def _take_outputs(site: Site, parts: Parts, one: Found, client: Client) -> None:
    client.receive()
    parts[one.variant.name].append(site.pull_outputs(_outputs(one)))


def _outputs(one: Found) -> str:
    return f"outputs-{one.variant.name}.npz"


def simulate(site: Site, found: Sequence[Found]) -> None:
    """Predictions of a device that is not here, on this host."""
    with ExitStack() as stack:
        for one in found:
            one.source = FLOAT_QDQ_SOURCE
            one.unmeasured = NOT_SIMULATED.get(one.variant.precision, "")
        clients = [(one, stack.enter_context(site.client(one.variant.name))) for one in found if not one.unmeasured]
        each(clients, partial(_stand_in, site))
        predict(site, clients)
    for one in found:
        one.unmeasured = f"{NO_DEVICE}; accuracy not simulated: {one.unmeasured}" if one.unmeasured else NO_DEVICE


def _stand_in(site: Site, one: Found, client: Client) -> None:
    open_variant(replace(one.variant, backend="ort", options=FLOAT_QDQ), client, site.threads)
