"""What an inference should take in joules by what is published of operations: an estimate, never a measurement.

M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014: 45 nm, 0.9 V. Newer chips take less,
so that only ratios between variants of a network mean something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.roofline import Part

PICO = 1e-12
SOURCE = "operations x published energy of each (Horowitz 2014, 45 nm): good for ratios only"
MULTIPLY_ADD_PJ = {
    "fp32": 3.7 + 0.9,
    "fp16": 1.1 + 0.4,
    "bf16": 1.1 + 0.4,
    "int8": 0.2 + 0.1,
    "int4": 0.2 + 0.1,
}
"""The sum of an integer product is one of 32 bits; 4 bits are storage, and computed in 8; BF16 is taken for FP16."""
MEMORY_PJ = ((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0))
"""To read 64 bits from an SRAM of so many bytes."""
DRAM_PJ = 1300.0
"""The same from DRAM: the lower end of 1300 to 2600."""
WORD_BYTES = 8


def estimated_joules(parts: Sequence[Part]) -> float:
    """Of all operators of a network.

    E = sum_i operations_i / 2 e(precision_i) + weights_i m(DRAM) + others_i m(others_i)

    Weights are read from DRAM once in an inference; what an operator takes and gives, from the smallest memory that
    holds it: m(s) is what a byte takes from one of s bytes.
    """
    found = [
        part.operations / 2 * MULTIPLY_ADD_PJ.get(part.precision, MULTIPLY_ADD_PJ["fp32"])
        + (part.weight_bytes * DRAM_PJ + part.other_bytes * _word_pj(part.other_bytes)) / WORD_BYTES
        for part in parts
    ]
    return float(np.sum(found)) * PICO


def _word_pj(held_bytes: int) -> float:
    return next((pj for size, pj in MEMORY_PJ if held_bytes <= size), DRAM_PJ)
