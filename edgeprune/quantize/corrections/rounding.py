"""Round 4-bit weights so that their layers give what they gave, not each weight to the nearest number.

For a row w of a layer's weight and the inputs x that it meets, the error at the output is quadratic (Nagel et al., "Up
or Down? Adaptive Rounding for Post-Training Quantization", 2020):

    E[(w~ x - w x)^2] = (w~ - w) H (w~ - w)^T,     H = E[x x^T],     w~ in s {-7, ..., 7}^K

Earlier layers are rounded already, so w~ meets other inputs x~ than w did. Up to a constant the error is then that
around another goal, with H = E[x~ x~^T]:

    E[(w~ x~ - w x)^2] = (w~ - w*) H (w~ - w*)^T + const,     w* = w E[x x~^T] H^-1

AdaRound descends along a gradient through relaxed roundings. Here weights are rounded one input at a time, and what one
leaves over is made up for by those still to come (Frantar et al., "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers", 2023): it ends as low, in a fraction of the time, and without chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.graph.layers import WeightedLayer
from edgeprune.progress import SILENT, Progress
from edgeprune.quantize.affine import SMALLEST_SCALE
from edgeprune.quantize.constants import array
from edgeprune.quantize.corrections.matrix import as_weight, columns, matrix, product_layers
from edgeprune.quantize.spec import LIMITS, QuantPlan, Rounded
from edgeprune.quantize.stream import values
from edgeprune.whole_file import whole

Layer = tuple[ir.Node, WeightedLayer]
Moments = tuple[NDArray[np.float32], NDArray[np.float32]]
"""E[x~ x~^T] and E[x x~^T], [groups, K, K] each, up to one factor."""

DAMPING = 0.01
"""Of the mean of H's diagonal, added to H and E[x x~^T]: some inputs are always zero, and few samples must not move
weights far."""
SHARES = np.linspace(0.4, 1, 61)
"""Of the scale at which the largest weight is the largest integer: the scales that are tried."""
CHUNK_BYTES = 2**25
"""Of columns that are multiplied at once."""


def round_weights(
    model: ir.Model,
    plan: QuantPlan,
    batches: Callable[[], Iterable[Feeds]],
    *,
    blocks: Mapping[str, int] | None = None,
    sequential: bool = True,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Rounded]:
    """Return the rounded weight of each int4 product layer of the plan, by initializer.

    `batches` gives all samples, anew each time it is called. `blocks`: how many inputs share a scale, by weight, where
    not all of an output channel do. If `sequential`, each layer makes up for what the rounding
    of those before it changed, and all samples run twice for each layer; else w* = w, all samples run once, and the
    moments of all layers are in memory together.
    A layer's wide channels are rounded to the nearest of 8 bits. In `folder` every finished layer is kept, and taken up
    from there: it is the caller's to give each model, plan and set of samples another.
    """
    layers = [(node, layer) for node, layer in product_layers(model) if plan.layers[layer.weight].precision == "int4"]
    weights = list(dict.fromkeys(layer.weight for _, layer in layers))
    moments = {} if sequential else _moments(model, None, layers, batches)
    done: dict[str, Rounded] = {}
    with progress.task("round", total=len(weights)) as task:
        for number, weight in enumerate(weights):
            file = None if folder is None else folder / f"{number}.npz"
            if file is not None and file.is_file():
                done[weight] = _read(file)
            else:
                readers = [(node, layer) for node, layer in layers if layer.weight == weight]
                if sequential:
                    moments = _moments(model, _with_weights(model, done), readers, batches)
                real, wide = array(model.graph.initializers[weight]), plan.layers[weight].wide
                done[weight] = _rounded(real, readers[0][1], moments.pop(weight), wide, (blocks or {}).get(weight))
                if file is not None:
                    _write(done[weight], file)
            task.advance(note=weight)
    return done


def best_scale(weight: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """The scale [C] at which rounding the rows of `weight` [C, K] to the nearest leaves the smallest squared error.

    Rounding for outputs starts best from it: what it cuts off the largest weights, others make up for. Rounding to the
    nearest does not: there the scale of the largest weight loses less.
    """
    full = np.abs(weight).max(axis=1) / limit
    tried = [np.maximum(share * full, SMALLEST_SCALE).astype(np.float32).astype(np.float64) for share in SHARES]
    errors = [((_nearest(weight, scale, limit) - weight) ** 2).sum(axis=1) for scale in tried]
    best: NDArray[np.float64] = np.stack(tried)[np.argmin(errors, axis=0), np.arange(len(full))]
    return best


def round_rows(
    weight: NDArray[np.float64], scale: NDArray[np.float64], h: NDArray[np.float64], limit: int
) -> NDArray[np.float64]:
    """Multiples of `scale` [C] or [C, K] in place of `weight` [C, K], of little error under `h` [K, K].

    H is positive definite. With H^-1 = U^T U, U upper triangular, the best the weights behind j can do about its error
    is w -= U_j e_j / U_jj. The inputs that matter most come first, while many are left to make up for them.
    """
    order = np.argsort(-np.diag(h), kind="stable")
    u = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    left, rounded = weight[:, order], np.empty_like(weight)
    scales = np.broadcast_to(scale.reshape(len(weight), -1), weight.shape)
    for j, column in enumerate(order):
        rounded[:, column] = _nearest(left[:, j : j + 1], scales[:, column], limit)[:, 0]
        left[:, j:] -= np.outer((left[:, j] - rounded[:, column]) / u[j, j], u[j, j:])
    return rounded


def _rounded(
    real: NDArray[np.float32], layer: WeightedLayer, moments: Moments, wide: Sequence[int], block: int | None
) -> Rounded:
    w = matrix(real.astype(np.float64), layer)
    size = block or w.shape[2]
    rounded, scales = np.empty_like(w), np.empty((*w.shape[:2], w.shape[2] // size))
    for group, (hh, c) in enumerate(zip(*moments, strict=True)):
        damping = (DAMPING * np.trace(hh) / len(hh) or 1.0) * np.eye(len(hh))
        h = hh + damping
        goal = np.linalg.solve(h, (w[group] @ (c + damping)).T).T  # h is symmetric
        scales[group] = best_scale(goal.reshape(-1, size), LIMITS["int4"]).reshape(scales[group].shape)
        rounded[group] = round_rows(goal, np.repeat(scales[group], size, axis=1), h, LIMITS["int4"])
    if block:
        return Rounded(as_weight(rounded, layer).astype(np.float32), scales[0].astype(np.float32))
    flat, scale = rounded.reshape(-1, w.shape[2]), scales.reshape(-1)
    for channel in wide:
        row = w.reshape(flat.shape)[channel : channel + 1]
        scale[channel] = max(np.float32(np.abs(row).max() / LIMITS["int8"]), SMALLEST_SCALE)
        flat[channel] = _nearest(row, scale[channel : channel + 1], LIMITS["int8"])[0]
    return Rounded(as_weight(rounded, layer).astype(np.float32), scale.astype(np.float32))


def _moments(
    model: ir.Model, rounded: ir.Model | None, layers: Sequence[Layer], batches: Callable[[], Iterable[Feeds]]
) -> dict[str, Moments]:
    """By weight, for all layers that read it; `rounded`: where x~ comes from, if not from the model too."""
    found: dict[str, Moments] = {}
    names = sorted({layer.input for _, layer in layers})
    runs = [values(one, names, batches()) for one in (model, rounded) if one is not None]
    for batch in zip(*runs, strict=True):
        real, changed = batch[0], batch[-1]
        for node, layer in layers:
            for part in _parts(changed[layer.input], layer):
                y = columns(changed[layer.input][part], node, layer)
                h = c = y @ y.transpose(0, 2, 1)
                if rounded is not None:
                    c = columns(real[layer.input][part], node, layer) @ y.transpose(0, 2, 1)
                so_far = found.get(layer.weight)
                found[layer.weight] = (h, c) if so_far is None else (so_far[0] + h, so_far[1] + c)
    return found


def _parts(x: NDArray[np.float32], layer: WeightedLayer) -> Iterator[slice]:
    """Some samples at a time: the columns of a convolution hold each number as often as the kernel has positions."""
    copies = int(np.prod(layer.weight_shape[2:]))
    step = max(1, CHUNK_BYTES // (copies * x[:1].nbytes))
    return (slice(start, start + step) for start in range(0, len(x), step))


def _read(file: Path) -> Rounded:
    with np.load(file) as arrays:
        return Rounded(arrays["weight"], arrays["scale"])


def _write(one: Rounded, file: Path) -> None:
    with whole(file) as partial, partial.open("wb") as opened:  # a kill leaves a layer whole or absent
        np.savez(opened, weight=one.weight, scale=one.scale)


def _with_weights(model: ir.Model, rounded: Mapping[str, Rounded]) -> ir.Model:
    changed = model.clone()
    for name, one in rounded.items():
        changed.graph.initializers[name].const_value = ir.tensor(one.weight, name=name)
    return changed


def _nearest(weight: NDArray[np.float64], scale: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    steps: NDArray[np.float64] = np.clip(np.rint(weight / scale[:, np.newaxis]), -limit, limit)
    return steps * scale[:, np.newaxis]
