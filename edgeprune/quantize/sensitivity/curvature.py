"""Predict what quantization costs from the curvature of the loss: a backward pass for each sample tells of all layers.

The float model's own answers are taken for true. There the divergence from it is 0 and flat, and rises as
    D ~ 1/2 E[(g . delta + h . epsilon)^2]
where rounding adds delta to a layer's weight and epsilon to its input; g and h are the derivatives of vT z by them, z
being the output and v from `Likelihood.root`. E[g gT] is the Fisher matrix, over the model's own answers, not over
labels (Kunstner et al., "Limitations of the Empirical Fisher Approximation", 2019). Multiplied by the error itself it
tells how a layer's weights act together, which HAWQ's mean of the diagonal leaves out (Dong et al., "HAWQ-V2", 2020).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.backends.backend import Feeds
from edgeprune.errors import ModelError
from edgeprune.graph.layers import WeightedLayer, weighted_layers
from edgeprune.models.calling import run
from edgeprune.progress import SILENT, Progress
from edgeprune.quantize.affine import asymmetric
from edgeprune.quantize.constants import array
from edgeprune.quantize.sensitivity.candidates import Candidates, input_ranges
from edgeprune.quantize.sensitivity.likelihood import Likelihood
from edgeprune.quantize.sensitivity.sensitivity import PRECISIONS, LayerSensitivity, Sensitivity
from edgeprune.quantize.spec import Range

PASSES = 3
"""A forward, and a backward that counts as two."""
TOLERANCE = 1e-4
"""Of a weight's largest number: what folding batch normalization into it may round."""
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Modules that multiply their one argument by `weight`."""

Form = Callable[[Tensor], Tensor]


def curvature(
    model: nn.Module,
    graph: ir.Model,
    feeds: Feeds,
    candidates: Candidates,
    likelihoods: Mapping[str, Likelihood],
    random: np.random.Generator,
    *,
    ranges: Mapping[str, Range] | None = None,
    progress: Progress = SILENT,
) -> Sensitivity:
    """Of every layer of `graph`, which was exported from `model`.

    `feeds`: samples [N, ...] of each input; `likelihoods`: of the outputs that count; `ranges`: those of a
    calibration, where inputs are to be quantized too. Raises ModelError where a weight of the graph is not found in
    the model: `divergence` needs the graph alone.
    """
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    layers = {one.weight: _Layer(_weights(one, model, graph, candidates)) for one in weighted_layers(graph)}
    noted = _note_inputs(model, layers, input_ranges(graph, ranges or {}))
    samples = len(next(iter(feeds.values())))
    with progress.task("sensitivity", total=samples) as task:
        for row in range(samples):
            noted.clear()
            z = run(model, {name: torch.from_numpy(x[row : row + 1]) for name, x in feeds.items()})
            _observe(_projected(z, likelihoods, random), layers, noted)
            task.advance()
    found = {weight: layer.sensitivity(samples) for weight, layer in layers.items()}
    return Sensitivity(found, "curvature", PASSES * samples)


@dataclass(frozen=True)
class _Weight:
    """A weight of the graph, as the model has it before batch normalization is folded: s [C] x form(parameter)."""

    parameter: Tensor
    form: Form
    axis: int
    deltas: Tensor
    """[P, C, K]: what rounding adds at each precision, divided by s."""

    def changes(self, gradient: Tensor) -> Tensor:
        """For each precision and output channel g . delta, [P, C]."""
        return torch.einsum("ck,pck->pc", _rows(self.form(gradient), self.axis), self.deltas)


class _Layer:
    """The weights of a layer, and the squares of what rounding changes, summed over the samples that were seen."""

    def __init__(self, weights: Sequence[_Weight]) -> None:
        self.weights = weights
        self._squares = torch.zeros(len(PRECISIONS), dtype=torch.float64)
        self._channels = torch.zeros(weights[0].deltas.shape[:2], dtype=torch.float64)

    def observe(self, gradients: Sequence[Tensor], noise: float) -> None:
        """One sample: g of each weight, and h . epsilon."""
        changes = torch.stack([one.changes(g) for one, g in zip(self.weights, gradients, strict=True)]).sum(0).double()
        self._squares += (changes.sum(1) + noise) ** 2
        self._channels += changes**2

    def sensitivity(self, samples: int) -> LayerSensitivity:
        """What the squares come to."""
        losses = dict(zip(PRECISIONS, (self._squares / (2 * samples)).tolist(), strict=True))
        by_precision = dict(zip(PRECISIONS, self._channels.numpy() / (2 * samples), strict=True))
        return LayerSensitivity(losses, by_precision["int4"] - by_precision["int8"])


@dataclass(frozen=True)
class _Input:
    """What a layer was given in one call, as a tensor of its own: what else reads it keeps the exact one."""

    weight: str
    x: Tensor
    epsilon: Tensor


def _projected(z: Mapping[str, Tensor], likelihoods: Mapping[str, Likelihood], random: np.random.Generator) -> Tensor:
    """The sum of vT z over the outputs that count."""
    terms = []
    for name, one in likelihoods.items():
        v = torch.from_numpy(one.root(z[name].detach().numpy(), random))
        terms.append((v * z[name]).sum())
    return torch.stack(terms).sum()


def _observe(score: Tensor, layers: Mapping[str, _Layer], noted: Sequence[_Input]) -> None:
    """Show one sample to every layer."""
    parameters = [one.parameter for layer in layers.values() for one in layer.weights]
    sources = [*parameters, *(one.x for one in noted)]
    gradients = iter(torch.autograd.grad(score, sources, allow_unused=True, materialize_grads=True))
    of_weights = {weight: [next(gradients) for _ in layer.weights] for weight, layer in layers.items()}
    noise = dict.fromkeys(layers, 0.0)
    for one in noted:
        noise[one.weight] += float((next(gradients) * one.epsilon).sum())
    for weight, layer in layers.items():
        layer.observe(of_weights[weight], noise[weight])


def _note_inputs(model: nn.Module, layers: Mapping[str, _Layer], ranges: Mapping[str, Range]) -> list[_Input]:
    """A list that fills with the inputs that have a range, as the model runs."""
    noted: list[_Input] = []

    def note(weight: str, span: Range, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q = asymmetric(span)
        given = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        x = given.view_as(given)
        rounded = torch.fake_quantize_per_tensor_affine(x.detach(), float(q.scale), int(q.zero_point), 0, 255)
        noted.append(_Input(weight, x, rounded - x.detach()))
        return (x, *args[1:])

    weights = {id(layer.weights[0].parameter): weight for weight, layer in layers.items() if weight in ranges}
    for module in model.modules():
        if isinstance(module, PRODUCTS) and (weight := weights.get(id(module.weight))) is not None:
            module.register_forward_pre_hook(partial(note, weight, ranges[weight]))
    return noted


def _weights(layer: WeightedLayer, model: nn.Module, graph: ir.Model, candidates: Candidates) -> list[_Weight]:
    found = []
    for weight in layer.weights:
        real = array(graph.graph.initializers[weight])
        parameter, form, s = _source(weight, real, layer.axis, model)
        per_s = np.divide(1, s, out=np.zeros_like(s), where=s != 0)
        deltas = [_rows(torch.from_numpy(candidates[weight][one] - real), layer.axis) for one in PRECISIONS]
        scaled = torch.stack(deltas) * torch.from_numpy(per_s)[:, None]
        found.append(_Weight(parameter.requires_grad_(), form, layer.axis, scaled))
    return found


def _source(
    weight: str, real: NDArray[np.float32], axis: int, model: nn.Module
) -> tuple[Tensor, Form, NDArray[np.float32]]:
    """The parameter that a weight was made of, and how: weight = s [C] x form(parameter)."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in (weight, f"{weight}_l0"):  # the first layer of a recurrent module
        if name not in parameters:
            continue
        for form in _forms(parameters[name]):
            made = form(parameters[name].detach())
            if made.shape == real.shape and (s := _proportion(made.numpy(), real, axis)) is not None:
                return parameters[name], form, s
    raise ModelError(
        f"weight '{weight}' of the graph is no weight of {type(model).__name__}, not even up to a factor per channel"
    )


def _forms(parameter: Tensor) -> Iterator[Form]:
    """What an exporter may do to a weight."""
    yield lambda p: p
    if parameter.dim() == 2:
        yield lambda p: p.T
        if len(parameter) % 4 == 0:  # an LSTM's gates: input, forget, cell, output in torch; i, o, f, c in ONNX
            yield lambda p: p.reshape(4, -1, p.shape[1])[[0, 3, 1, 2]].reshape(1, *p.shape)


def _proportion(made: NDArray[np.float32], real: NDArray[np.float32], axis: int) -> NDArray[np.float32] | None:
    """The factors s [C] with real = s x made; None where there are none."""
    a, b = (np.moveaxis(one, axis, 0).reshape(one.shape[axis], -1).astype(np.float64) for one in (made, real))
    squares = (a * a).sum(axis=1)
    s = np.divide((a * b).sum(axis=1), squares, out=np.zeros(len(a)), where=squares > 0)
    fits = np.abs(b - s[:, np.newaxis] * a).max(initial=0) <= TOLERANCE * np.abs(b).max(initial=0)
    return s.astype(np.float32) if fits else None


def _rows(x: Tensor, axis: int) -> Tensor:
    """[C, K]: the numbers of each output channel."""
    return x.movedim(axis, 0).flatten(1)
