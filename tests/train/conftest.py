"""Sentences with an opinion, and what turns them into tokens."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.samples import Answer, Samples, objects
from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece

WORDS = ("the", "film", "was", "a", "good", "great", "fine", "bad", "poor", "dull", "story", "told", "well")
GOOD = {"good", "great", "fine"}
LENGTH = 12


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> str:
    pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS)))
    return read_tokenizer(path)


@pytest.fixture(scope="session")
def words(tokenizer) -> WordPiece:
    return WordPiece(Text(("text",), LENGTH), tokenizer)


@pytest.fixture(scope="session")
def sentences() -> Samples:
    """120 of two to nine words; those with a good word are of class 1."""
    random = np.random.default_rng(0)
    neutral = [word for word in WORDS if word not in {*GOOD, "bad", "poor", "dull"}]
    texts, labels = [], []
    for row in range(120):
        label = row % 2
        opinion = random.choice(sorted(GOOD) if label else ["bad", "poor", "dull"])
        others = random.choice(neutral, random.integers(1, 9)).tolist()
        others.insert(int(random.integers(0, len(others) + 1)), opinion)
        texts.append(" ".join(others))
        labels.append(label)
    return Samples({"text": objects(texts)}, np.array(labels, np.int64))


@pytest.fixture(scope="session")
def pairs(tokenizer) -> WordPiece:
    return WordPiece(Text(("question", "context"), LENGTH + 4), tokenizer)


@pytest.fixture(scope="session")
def questions(sentences) -> Samples:
    """Which word of a sentence says an opinion."""
    contexts = sentences.columns["text"]
    found = [next(word for word in text.split() if word in {*GOOD, "bad", "poor", "dull"}) for text in contexts]
    labels = objects([(Answer(word, text.index(word)),) for word, text in zip(found, contexts, strict=True)])
    return Samples({"question": objects(["film was"] * len(contexts)), "context": contexts}, labels)
