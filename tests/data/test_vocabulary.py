from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece
from edgeprune.errors import ConfigError, DataError


def test_a_tokenizer_is_read_from_a_list_of_words_from_json_and_from_a_folder_that_has_either(vocabulary, tmp_path):
    plain = read_tokenizer(vocabulary)
    (tmp_path / "tokenizer.json").write_text(plain)
    assert read_tokenizer(tmp_path / "tokenizer.json") == read_tokenizer(tmp_path) == plain
    assert read_tokenizer(vocabulary.parent) == plain


def test_truncation_that_a_file_brings_is_not_ours(vocabulary, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(read_tokenizer(vocabulary))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=99)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path) == read_tokenizer(vocabulary)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vocab.txt", b"", r"has no \[PAD\]"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\nfilm\n", r"has no \[SEP\]"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "holds 'a' twice"),
        ("vocab.txt", b"\xff\xfe", "cannot be read"),
        ("tokenizer.json", b"{}", "no tokenizer.json"),
        ("tokenizer.json", b"nonsense", "no tokenizer.json"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_told(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_tokenizer(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    for place in (tmp_path, tmp_path / "vocab.txt"):
        with pytest.raises(DataError, match="no such vocabulary"):
            read_tokenizer(place)


def test_case_is_the_business_of_a_tokenizer_itself(vocabulary, tmp_path):
    (tmp_path / "tokenizer.json").write_text(read_tokenizer(vocabulary))
    with pytest.raises(ConfigError, match="leave lowercase out"):
        read_tokenizer(tmp_path, lowercase=True)


def test_a_vocabulary_beside_the_data_is_found(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path / "data"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bert-base-uncased-vocab.txt").write_bytes(vocabulary.read_bytes())
    assert read_tokenizer(None) == read_tokenizer(vocabulary)


def test_the_shared_vocabulary_writes_text_as_bert_does(shared_data, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(shared_data))
    given = WordPiece(Text(("text",), 12), read_tokenizer(None))
    assert given.vocabulary_size == 30_522
    # "Hello, unaffable café!" by the rules of BERT: lower case, no accents, longest match first.
    ids = given({"text": given_text("Hello, unaffable café!")})["input_ids"][0]
    assert ids.tolist() == [101, 7592, 1010, 14477, 20961, 3468, 7668, 999, 102, 0, 0, 0]


def given_text(text):
    from edgeprune.data.samples import objects

    return objects([text])


def test_without_a_vocabulary_and_without_the_hub_it_says_how_to_give_one():
    code = (
        "from edgeprune.data.vocabulary import read_tokenizer; from edgeprune.errors import MissingError\n"
        "try: read_tokenizer(None)\n"
        "except MissingError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "EDGEPRUNE_DATA"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "--vocabulary" in done.stdout
