"""What is done to text before a model sees it: tokens by number, cut or padded to one length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeprune.data import vocabulary
from edgeprune.data.preprocess import Columns, Preprocess
from edgeprune.errors import ConfigError, CorruptError, DataError
from edgeprune.registry import require
from edgeprune.tensor import TEXT, TensorSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Keep = Literal["head", "tail", "both"]
CHUNK = 512
"""Samples whose tokens are held as objects at once."""


@dataclass(frozen=True)
class Text:
    """How texts become tokens, whatever the vocabulary."""

    columns: tuple[str, ...]
    """One text or a pair: [CLS] a [SEP] or [CLS] a [SEP] b [SEP], in the words of BERT."""
    length: int
    """Tokens of a sample: shorter ones are padded on the right, of pairs the longer text is cut first."""
    keep: Keep = "head"
    """What stays of a text that is too long; `both`: a quarter of the front, the rest of the end, which says most of a
    review (Sun et al., 2019, kept 128 and 382 of 510)."""
    stride: int = 0
    """Where not 0: a long second text is not cut but seen through windows, which share so many tokens."""

    def __post_init__(self) -> None:
        if len(self.columns) not in (1, 2):
            raise ConfigError(f"texts {', '.join(self.columns)}: one or two columns are needed")
        if self.keep not in get_args(Keep):
            raise ConfigError(f"keep {self.keep!r}: write one of {', '.join(get_args(Keep))}")
        if self.keep == "both" and len(self.columns) == 2:
            raise ConfigError("keep both: goes with one text, not with a pair: write head or tail")
        if self.stride and (len(self.columns) != 2 or self.keep != "head"):
            raise ConfigError("stride: windows go over the second text of a pair: leave it or keep out")
        if not 0 <= self.stride < self.length:
            raise ConfigError(f"stride {self.stride}: at least 0 and less than the length {self.length} is needed")


@dataclass(frozen=True)
class WordPiece:
    """Texts as token numbers, with the `tokenizers` library."""

    text: Text
    tokenizer: str
    """JSON of the library, without truncation and padding."""

    def __post_init__(self) -> None:
        if self.text.length <= self._special:
            raise ConfigError(f"length {self.text.length}: {self._special} tokens are special: take a larger one")

    @property
    def length(self) -> int:
        """Tokens of a sample."""
        return self.text.length

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest token number."""
        return max(self._plain.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Three int64 tensors [batch, length]; a model takes those it knows."""
        return tuple(TensorSpec(name, "int64", ("batch", self.length)) for name in TEXT)

    def __call__(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Texts [N] as three tensors [F, length]: F = N, or with a stride one row per window."""
        parts = [np.empty((3, 0, self.length), np.int64)]
        for _, windows in self.encoded(columns):
            rows = [(one.ids, one.attention_mask, one.type_ids) for one in windows]
            tokens = [[self._cut(values) for values in row] for row in rows]
            parts.append(np.array(tokens, np.int64).transpose(1, 0, 2))
        return dict(zip(TEXT, np.concatenate(parts, axis=1), strict=True))

    def encoded(self, columns: Columns) -> Iterator[tuple[list[int], list[Encoding]]]:
        """Windows in order, some samples at a time, each with the number of its sample."""
        texts = self._texts(columns)
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            if self.text.stride:
                self._check_room(chunk, start)
            numbers: list[int] = []
            windows: list[Encoding] = []
            for number, one in enumerate(self._framing.encode_batch(chunk), start):
                found = [one, *one.overflowing] if self.text.stride else [one]
                windows += found
                numbers += [number] * len(found)
            yield numbers, windows

    def to_json(self) -> dict[str, Any]:
        """What `preprocess.json` of a bundle holds."""
        number, _, token = self._padding
        return {
            "kind": "text",
            **asdict(self.text),
            "columns": list(self.text.columns),
            "outputs": list(TEXT),
            "padding": {"side": "right", "id": number, "token": token},
            "tokenizer": vocabulary.TOKENIZER,
            "sha256": hashlib.sha256(self._saved.encode()).hexdigest(),
        }

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which cuts and pads as this does; but `keep: both` and windows are beyond it."""
        (folder / vocabulary.TOKENIZER).write_text(self._saved, encoding="utf-8")

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], folder: Path) -> WordPiece:
        """Read what `to_json` and `save` wrote. Raises CorruptError, MissingError without the library."""
        require("tokenizers", extra="text")
        file = folder / vocabulary.TOKENIZER
        try:
            columns = tuple(map(str, raw["columns"]))
            text = Text(columns, int(raw["length"]), raw["keep"], int(raw["stride"]))
            return cls(text, vocabulary.from_json(file.read_text(encoding="utf-8"), file))
        except (KeyError, TypeError, ValueError, OSError, ConfigError, DataError) as error:
            raise CorruptError(f"{folder}: preprocess: {type(error).__name__} {error}: compile again") from error

    @cached_property
    def _plain(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.tokenizer)

    @cached_property
    def _framing(self) -> Tokenizer:
        """The tokenizer with truncation and padding set."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer)
        number, kind, token = self._padding
        tokenizer.enable_padding(length=self.length, pad_id=number, pad_type_id=kind, pad_token=token)
        if self.text.stride:
            tokenizer.enable_truncation(self.length, stride=self.text.stride, strategy="only_second")
        elif self.text.keep != "both":
            side = "right" if self.text.keep == "head" else "left"
            tokenizer.enable_truncation(self.length, strategy="longest_first", direction=side)
        return tokenizer

    @cached_property
    def _saved(self) -> str:
        text: str = self._framing.to_str()
        return text

    @property
    def _padding(self) -> tuple[int, int, str]:
        """Number, segment and text of the token that fills up."""
        known = ((token, self._plain.token_to_id(token)) for token in ("[PAD]", "<pad>"))
        return next(((number, 0, token) for token, number in known if number is not None), (0, 0, "[PAD]"))

    @property
    def _special(self) -> int:
        return int(self._plain.num_special_tokens_to_add(len(self.text.columns) == 2))

    def _cut(self, values: list[int]) -> list[int]:
        if len(values) <= self.length:
            return values
        front = (self.length - self._special) // 4 + 1  # with [CLS]
        return values[:front] + values[front - self.length :]

    def _texts(self, columns: Columns) -> list[Any]:
        if missing := [name for name in self.text.columns if name not in columns]:
            raise DataError(f"text '{missing[0]}' is needed: there is {', '.join(columns)}")
        chosen = [columns[name].tolist() for name in self.text.columns]
        for name, values in zip(self.text.columns, chosen, strict=True):
            if other := next((value for value in values if not isinstance(value, str)), None):
                raise DataError(f"'{name}' holds {type(other).__name__} {other!r:.40}, text is needed")
        return chosen[0] if len(chosen) == 1 else list(zip(*chosen, strict=True))

    def _check_room(self, pairs: list[tuple[str, str]], before: int) -> None:
        """The library ends the process where a window has no room for more than it shares with the one before."""
        firsts = self._plain.encode_batch([first for first, _ in pairs], add_special_tokens=False)
        for number, first in enumerate(firsts, before):
            room = self.length - self._special - len(first.ids)
            if room <= self.text.stride:
                raise DataError(
                    f"sample {number}: its {self.text.columns[0]} has {len(first.ids)} tokens; of {self.length} it"
                    f" leaves {max(room, 0)}, {self.text.stride} of them shared: take a larger length"
                )


def check_vocabulary(preprocess: Preprocess, rows: int, what: str) -> None:
    """Refuse a tokenizer with more tokens than the embedding of `what` has rows. Raises DataError."""
    if isinstance(preprocess, WordPiece) and preprocess.vocabulary_size > rows:
        raise DataError(
            f"{what}: its embedding has {rows} rows, the tokenizer goes up to token {preprocess.vocabulary_size - 1}:"
            " give the vocabulary that it was trained with (--vocabulary)"
        )


def check_length(preprocess: Preprocess, positions: int, what: str) -> None:
    """Refuse sequences longer than `what` has positions for. Raises DataError."""
    if isinstance(preprocess, WordPiece) and preprocess.length > positions:
        raise DataError(
            f"{what}: takes {positions} tokens at most, the data give {preprocess.length}: --length {positions}"
        )
