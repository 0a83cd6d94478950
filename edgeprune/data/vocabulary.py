"""The tokenizer that turns text into the numbers a model was trained on: a WordPiece vocabulary or a tokenizer.json."""

from __future__ import annotations

import os
from pathlib import Path

from edgeprune.errors import ConfigError, DataError, MissingError
from edgeprune.registry import require

ROOT_VARIABLE = "EDGEPRUNE_DATA"
BERT = "google-bert/bert-base-uncased"
BERT_FILE = "bert-base-uncased-vocab.txt"
TOKENIZER = "tokenizer.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CHOOSE = "name a vocab.txt or tokenizer.json with --vocabulary"


def read_tokenizer(vocabulary: Path | None, *, lowercase: bool | None = None) -> str:
    """The tokenizer as the JSON of the `tokenizers` library, without truncation and padding.

    `vocabulary` is a tokenizer.json, a vocab.txt (one token per line, cut as BERT does it: Devlin et al., 2019) or a
    folder that has either; None is that of bert-base-uncased, beside the data or from the hub. `lowercase` (None: yes)
    goes with a vocab.txt only: a tokenizer.json says it itself. Raises MissingError where the library or the
    vocabulary is not here, DataError where the file is no vocabulary.
    """
    require("tokenizers", extra="text")
    file = _found(vocabulary)
    if file.suffix == ".json":
        if lowercase is not None:
            raise ConfigError(f"lowercase: {file} says itself what it does to text: leave lowercase out")
        return from_json(_text(file), file)
    return _bert(_lines(_text(file)), file, lowercase is not False)


def from_json(text: str, place: Path) -> str:
    """A tokenizer.json without its truncation and padding, which are ours to say. Raises DataError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{place}: no tokenizer.json of the tokenizers library ({error}): {CHOOSE}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    plain: str = tokenizer.to_str()
    return plain


def _bert(tokens: list[str], file: Path, lowercase: bool) -> str:
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

    numbers = {token: number for number, token in enumerate(tokens)}
    if len(numbers) != len(tokens):
        twice = next(token for number, token in enumerate(tokens) if numbers[token] != number)
        raise DataError(f"{file}: holds {twice!r} twice: one token per line is needed")
    if missing := [token for token in SPECIAL if token not in numbers]:
        raise DataError(f"{file}: has no {missing[0]}, so it is no vocabulary of BERT: {CHOOSE}")
    plain: str = BertWordPieceTokenizer(numbers, lowercase=lowercase).to_str()
    return plain


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _found(vocabulary: Path | None) -> Path:
    if vocabulary is not None:
        inside = [vocabulary / name for name in (TOKENIZER, "vocab.txt")] if vocabulary.is_dir() else [vocabulary]
        if (file := _first(inside)) is None:
            raise DataError(f"{vocabulary}: no such vocabulary: {CHOOSE}")
        return file
    root = os.environ.get(ROOT_VARIABLE)
    places = [Path(root) / BERT_FILE, Path(root).parent / "models" / BERT_FILE] if root else []
    return _first(places) or _from_hub()


def _first(places: list[Path]) -> Path | None:
    return next((place for place in places if place.is_file()), None)


def _from_hub() -> Path:
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(BERT, TOKENIZER))
    except Exception as error:  # the library passes on what its HTTP client and file system raise
        reason = " ".join(str(error).split())[:120]
        raise MissingError(
            f"the vocabulary of {BERT} is neither in ${ROOT_VARIABLE}/{BERT_FILE} nor on the hub ({reason}): {CHOOSE}"
        ) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({type(error).__name__}): {CHOOSE}") from error
