"""Quantize numbers: q = clip(round(x / scale) + zero_point), x' = scale * (q - zero_point).

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018.
Inside the range the error |x - x'| is at most half a scale, and 0 is always exact: padding is zero, and so is what a
ReLU cuts off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.spec import QParams, Range

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Runtimes divide by a scale, and some flush denormal numbers to zero."""
WIDER = 1.25
"""How much wider steps may be for the sake of a zero point of 0: 2 dB of noise for the fastest kernels."""


def asymmetric(span: Range) -> QParams:
    """Unsigned 8-bit parameters for all of a range and for 0."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    scale = _scale((high - low) / 255)
    return QParams(scale, np.array(round(-low / float(scale)), np.uint8))


def symmetric(span: Range, limit: int = 127) -> QParams:
    """Signed 8-bit parameters with zero point 0; `limit`: the largest quantized magnitude."""
    return QParams(_scale(max(abs(span.low), abs(span.high)) / limit), np.array(0, np.int8))


def centred(span: Range) -> QParams:
    """8-bit parameters with zero point 0: signed, or unsigned for a range without negative numbers."""
    if span.low < 0:
        return symmetric(span)
    return QParams(_scale(span.high / 255), np.array(0, np.uint8))


def balanced(span: Range) -> QParams:
    """8-bit parameters with zero point 0 where that makes steps at most a quarter wider, else `asymmetric` ones."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    return centred(span) if low == 0 or 2 * max(-low, high) <= WIDER * (high - low) else asymmetric(span)


def per_channel(
    weight: NDArray[np.float32],
    axis: int,
    limit: NDArray[np.int64] | int,
    floor: NDArray[np.float64] | float = 0.0,
) -> QParams:
    """Signed 8-bit parameters with zero point 0 for each slice [C] of `weight` along `axis`.

    `limit` [] or [C]: the largest quantized magnitude; `floor` [] or [C]: the smallest scale that may be chosen.
    """
    others = tuple(dim for dim in range(weight.ndim) if dim != axis)
    scale = np.maximum(np.abs(weight).max(axis=others) / limit, floor)
    return QParams(np.maximum(scale, SMALLEST_SCALE).astype(np.float32), np.zeros(len(scale), np.int8))


def quantize(x: NDArray[Any], q: QParams, axis: int = 0) -> NDArray[Any]:
    """The nearest representable integers, ties to even; `axis` counts channels where `q` has several."""
    info = np.iinfo(q.zero_point.dtype)
    steps = np.rint(x / _along(q.scale, x.ndim, axis)) + _along(q.zero_point, x.ndim, axis)
    integers: NDArray[Any] = np.clip(steps, info.min, info.max).astype(q.zero_point.dtype)
    return integers


def dequantize(x: NDArray[Any], q: QParams, axis: int = 0) -> NDArray[np.float32]:
    """The real numbers that integers stand for."""
    steps = x.astype(np.int32) - _along(q.zero_point, x.ndim, axis).astype(np.int32)
    real: NDArray[np.float32] = (steps * _along(q.scale, x.ndim, axis)).astype(np.float32)
    return real


def _scale(step: float) -> NDArray[np.float32]:
    return np.array(max(step, SMALLEST_SCALE), np.float32)


def _along(parameter: NDArray[Any], ndim: int, axis: int) -> NDArray[Any]:
    """Reshape [C] so that it applies along `axis` of an `ndim`-dimensional array; leave [] alone."""
    return parameter if parameter.ndim == 0 else parameter.reshape([-1 if dim == axis else 1 for dim in range(ndim)])
