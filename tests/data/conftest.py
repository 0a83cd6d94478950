"""A small vocabulary of BERT's kind, with which any English text can be written."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece

WORDS = ("the", "film", "was", "good", "bad", "who", "wrote", "it", "not", "a")


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocab.txt of special tokens, letters and a few words."""
    characters = [*string.ascii_letters, *string.digits, *string.punctuation]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys([*WORDS, *characters])]
    tokens += [f"##{one}" for one in characters]
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def word_piece(vocabulary):
    """Makes a WordPiece: `word_piece("text", length=8)`."""
    tokenizer = read_tokenizer(vocabulary)

    def make(*columns: str, length: int, **how: object) -> WordPiece:
        return WordPiece(Text(columns, length, **how), tokenizer)

    return make
