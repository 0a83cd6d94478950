"""Questions about a text: the windows over a long one, and the answers between tokens and characters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.preprocess import Columns
from edgeprune.data.samples import Samples, objects
from edgeprune.data.wordpiece import WordPiece
from edgeprune.errors import DataError
from edgeprune.judge import END, START, TEXT, Answers, Outputs

LONGEST = 30
"""Tokens of an answer at most, as in the evaluation of BERT (Devlin et al., 2019)."""
NOT_HERE = 0
"""The position of [CLS]: a window without the answer points there."""
CONTEXT = 1
"""The second text of a pair."""


@dataclass(frozen=True)
class Windows:
    """What lies where in the F rows that a preprocessing makes of n questions."""

    sample: NDArray[np.int64]
    """[F]: which question a row belongs to."""
    inside: NDArray[np.bool_]
    """[F, L]: which tokens are of the context."""
    spans: NDArray[np.int64]
    """[F, L, 2]: the characters of its text that a token stands for, end not included."""


def windows(preprocess: WordPiece, columns: Columns) -> Windows:
    """The windows in the order in which `preprocess` gives them."""
    sample: list[int] = []
    inside: list[list[bool]] = []
    spans: list[list[tuple[int, int]]] = []
    for numbers, found in preprocess.encoded(columns):
        sample += numbers
        inside += [[one == CONTEXT for one in window.sequence_ids] for window in found]
        spans += [window.offsets for window in found]
    return Windows(np.array(sample, np.int64), np.array(inside, bool), np.array(spans, np.int64))


def answers(outputs: Outputs, windows: Windows, contexts: NDArray[np.object_]) -> Answers:
    """The text that answers each question: of all its windows the span whose start and end score most together.

    A span lies in the context and is at most LONGEST tokens long. `outputs` are `start_logits` and `end_logits`
    [F, L], or whatever the first two outputs are called. Raises DataError where they have another shape.
    """
    start, end = (np.where(windows.inside, scores, -np.inf) for scores in _scores(outputs, windows.inside.shape))
    rows, length = windows.inside.shape
    best = np.full(rows, -np.inf)
    first, last = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for more in range(min(LONGEST, length)):
        together = start[:, : length - more] + end[:, more:]
        where = np.argmax(together, axis=1)
        score = together[np.arange(rows), where]
        better = score > best
        best[better], first[better], last[better] = score[better], where[better], where[better] + more
    chosen: dict[int, int] = {}
    for row, sample in enumerate(windows.sample.tolist()):
        if sample not in chosen or best[row] > best[chosen[sample]]:
            chosen[sample] = row
    found = []
    for sample, context in enumerate(contexts):
        row = chosen[sample]
        low, high = windows.spans[row, first[row], 0], windows.spans[row, last[row], 1]
        found.append(context[low:high] if np.isfinite(best[row]) else "")
    return {TEXT: objects(found)}


def targets(preprocess: WordPiece, samples: Samples) -> dict[str, NDArray[np.int64]]:
    """The tokens that the first answer starts and ends at, per window: `start` [F] and `end` [F], for training.

    Where a window does not hold all of the answer both are NOT_HERE. Raises DataError where an answer is not in its
    context at the place it names.
    """
    if samples.labels is None:
        raise DataError("questions without answers: nothing can be learnt from them")
    placed = windows(preprocess, samples.columns)
    low, high = np.array([_place(samples, row) for row in range(len(samples))], np.int64).reshape(-1, 2).T
    low, high = low[placed.sample, None], high[placed.sample, None]
    starts, ends = placed.spans[..., 0], placed.spans[..., 1]
    within = placed.inside & (starts < high) & (ends > low)
    before, after = placed.inside & (starts <= low), placed.inside & (ends >= high)
    whole = within.any(axis=1) & before.any(axis=1) & after.any(axis=1)
    last = within.shape[1] - 1 - within[:, ::-1].argmax(axis=1)
    return {"start": np.where(whole, within.argmax(axis=1), NOT_HERE), "end": np.where(whole, last, NOT_HERE)}


def _place(samples: Samples, row: int) -> tuple[int, int]:
    assert samples.labels is not None
    text, start = samples.labels[row][0]
    found = samples.columns["context"][row][start : start + len(text)]
    if found != text or not text.strip():
        raise DataError(f"sample {row}: its answer {text!r:.40} is not in the context at character {start}")
    start += len(text) - len(text.lstrip())  # no token stands for a blank
    return start, start + len(text.strip())


def _scores(outputs: Mapping[str, NDArray[np.float32]], shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    names = [START, END]
    if not set(names) <= set(outputs):
        names = list(outputs)[:2]
    if len(names) < 2 or any(outputs[name].shape != shape for name in names):
        told = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise DataError(
            f"scores of a start and an end are needed for each token, {list(shape)}: the outputs are {told}"
        )
    scores = [outputs[name].astype(np.float64) for name in names]
    return [np.where(np.isfinite(one), one, -np.inf) for one in scores]
