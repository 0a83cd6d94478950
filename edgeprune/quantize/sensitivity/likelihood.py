"""What an output says of the answer, as a distribution, and how far two such distributions lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION
from edgeprune.models.task import spans

Kind = Literal["classes", "logit", "probability", "value"]
Outputs = Mapping[str, NDArray[Any]]

LEAST = 1e-7
"""A probability is kept this far from 0 and 1, where its logarithm would end."""


@dataclass(frozen=True)
class Likelihood:
    """The distribution that an output z [N, ...] stands for."""

    kind: Kind
    """`classes`: softmax over the last dimension; `logit`, `probability`: one number for the second of two classes;
    `value`: a Gaussian around each number."""
    deviation: float = 1.0
    """Of the Gaussian. Squared errors are averaged over the numbers of a sample, so that they count as one."""

    def divergence(self, z: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
        """D = KL(p(z) || p(other)) in nats, [N]."""
        if self.kind == "value":
            error = ((other.astype(np.float64) - z) / self.deviation) ** 2
            mean: NDArray[np.float64] = error.reshape(len(z), -1).mean(axis=1) / 2
            return mean
        log_p, log_q = self._log(z), self._log(other)
        terms = np.exp(log_p) * (log_p - log_q)
        total: NDArray[np.float64] = terms.reshape(len(z), -1).sum(axis=1)
        return total

    def root(self, z: NDArray[Any], random: np.random.Generator) -> NDArray[np.float32]:
        """A random v, shaped as z, with E[v vT] = H, the second derivative of D by `other` at z.

        With signs e and p = softmax(z), H = diag(p) - p pT and v = sqrt(p) e - p (sqrt(p) . e). That is the curvature
        of an answer drawn from p (Martens, "New Insights and Perspectives on the Natural Gradient Method", 2020),
        without the rare draws that most of it hangs on where a network is sure.
        """
        e = random.choice([-1.0, 1.0], z.shape)
        if self.kind == "classes":
            p = np.exp(self._log(z))
            v = np.sqrt(p) * e - p * (np.sqrt(p) * e).sum(axis=-1, keepdims=True)
        else:
            v = np.sqrt(self._diagonal(z)) * e
        signed: NDArray[np.float32] = v.astype(np.float32)
        return signed

    def trace(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """That of H, [N]: how much a small change of the output matters."""
        if self.kind == "classes":
            p = np.exp(self._log(z))
            diagonal = p * (1 - p)
        else:
            diagonal = self._diagonal(z)
        total: NDArray[np.float64] = diagonal.reshape(len(z), -1).sum(axis=1)
        return total

    def _log(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """The logarithms of all probabilities."""
        z = z.astype(np.float64)
        if self.kind == "probability":
            p = np.clip(z, LEAST, 1 - LEAST)
            z = np.log(np.stack([1 - p, p], axis=-1))  # normalized already
        if self.kind == "logit":
            z = np.stack([np.zeros_like(z), z], axis=-1)
        z = z - z.max(axis=-1, keepdims=True)
        log_p: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        return log_p

    def _diagonal(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """H where it has nothing but a diagonal."""
        if self.kind == "value":
            return np.full(z.shape, 1 / (self.deviation**2 * z[0].size))
        variance: NDArray[np.float64] = np.exp(self._log(z)).prod(axis=-1)
        return variance if self.kind == "logit" else 1 / variance


def likelihoods(task: str, outputs: Outputs, *, is_probability: bool = False) -> dict[str, Likelihood]:
    """The outputs that a task is answered by; without a task all of them are values.

    `outputs`: those of the float model for some samples, [N, ...]; values deviate as they do. `is_probability`:
    whether a single score went through a sigmoid.
    """
    if task == QUESTIONS and (found := spans({name: name for name in outputs})) is not None:
        return {name: Likelihood("classes") for name in found}
    scores = next((name for name, z in outputs.items() if z.ndim == 2 and z.shape[1] > 1), None)
    if task == CLASSIFICATION and scores is not None:
        return {scores: Likelihood("classes")}
    single = next((name for name, z in outputs.items() if z[:1].size == 1), None)
    if task == CLASSIFICATION and single is not None:
        return {single: Likelihood("probability" if is_probability else "logit")}
    values = [single] if task == REGRESSION and single is not None else list(outputs)
    return {name: Likelihood("value", _deviation(outputs[name])) for name in values}


def _deviation(z: NDArray[Any]) -> float:
    """Of each number between samples; 1 where none differs."""
    return float(np.sqrt(z.astype(np.float64).var(axis=0).mean())) or 1.0


def divergence_of(of: Mapping[str, Likelihood], outputs: Outputs, other: Outputs) -> NDArray[np.float64]:
    """That of all outputs that count, in nats, [N]."""
    total: NDArray[np.float64] = np.sum(
        [one.divergence(outputs[name], other[name]) for name, one in of.items()], axis=0
    )
    return total
