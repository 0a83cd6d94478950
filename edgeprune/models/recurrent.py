"""Recurrent networks that read tokens: an LSTM, and one in each direction.

Texts are padded on the right with token 0. What follows a text changes no answer: padded positions are left out of the
maximum over time, and the second direction starts at a text's own end, not at that of its padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeprune.errors import ModelError

PAD = 0
"""The token that fills a text up to its length."""
WIDTH = 64
"""Of a token's embedding: with a vocabulary of 30,000 these are nearly all the weights there are."""
HIDDEN = 128
SPREAD = 0.1
"""Of an embedding when it is drawn: with PyTorch's 1 the steps of Adam take epochs to tell in it."""
LEAST = -1.0
"""Below everything that an LSTM gives, whose outputs are products of a sigmoid and a tanh."""


class _Reader(nn.Module):
    """Embed tokens; both networks drop half of what they embed and of what they pool, in training only."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD)
        with torch.no_grad():
            self.embedding.weight.mul_(SPREAD)
        self.dropout = nn.Dropout(0.5)

    def _pooled(self, lstm: nn.Module, input_ids: Tensor, is_token: Tensor) -> Tensor:
        """The maximum over a text [N, length] of each output of `lstm`, [N, HIDDEN]."""
        outputs, _ = lstm(self.dropout(self.embedding(input_ids)))
        return torch.where(is_token.unsqueeze(2), outputs, LEAST).amax(1)


class Lstm(_Reader):
    """embedding 64 - LSTM 128 - maximum over time - dense 128 - ReLU - dense."""

    def __init__(self, *, vocabulary: int, classes: int) -> None:
        super().__init__(vocabulary)
        self.lstm = nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.dense1 = nn.Linear(HIDDEN, HIDDEN)
        self.relu = nn.ReLU()
        self.dense2 = nn.Linear(HIDDEN, classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map tokens [N, length] to logits [N, classes]."""
        pooled = self._pooled(self.lstm, input_ids, input_ids != PAD)
        logits: Tensor = self.dense2(self.dropout(self.relu(self.dense1(self.dropout(pooled)))))
        return logits


class BiLstm(_Reader):
    """embedding 64 - LSTM 128 in each direction - maximum over time - dense 1."""

    def __init__(self, *, vocabulary: int, classes: int) -> None:
        if classes > 2:
            raise ModelError(f"bilstm gives one score: it cannot tell {classes} classes apart: use lstm")
        super().__init__(vocabulary)
        self.forwards = nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.backwards = nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.dense = nn.Linear(2 * HIDDEN, 1)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map tokens [N, length] to one score [N, 1]: the logit of the second of two classes, or a value."""
        is_token = input_ids != PAD
        pooled = [
            self._pooled(self.forwards, input_ids, is_token),
            self._pooled(self.backwards, _reversed(input_ids, is_token), is_token),
        ]
        score: Tensor = self.dense(self.dropout(torch.cat(pooled, 1)))
        return score


def _reversed(input_ids: Tensor, is_token: Tensor) -> Tensor:
    """Each text back to front, its padding where it was."""
    position = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    length = is_token.sum(1, keepdim=True)
    return input_ids.gather(1, torch.where(is_token, length - 1 - position, position))
