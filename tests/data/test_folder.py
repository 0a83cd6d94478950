"""Folders of Parquet files with text; the texts are synthetic."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeprune.data.datasets import describe, read
from edgeprune.data.wordpiece import Text
from edgeprune.errors import DataError
from edgeprune.recipe import Rows

ROWS = 40


def write(folder, split="train", **columns):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")


def texts(*names):
    return {name: [f"{name} {row}" for row in range(ROWS)] for name in names}


CLASSES = [row % 2 for row in range(ROWS)]
ANSWERS = [{"text": ["con"], "answer_start": [0]}] * ROWS


@pytest.mark.parametrize(
    "names",
    [
        ("text",),
        ("sentence",),
        ("sentence1", "sentence2"),
        ("question", "sentence"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
    ],
)
def test_columns_of_text_are_known_by_their_names(tmp_path, names):
    write(tmp_path, **texts(*names), label=CLASSES, idx=range(ROWS))
    info = describe(str(tmp_path))
    assert info.columns == names
    assert info.preprocess == Text(names, 128)
    assert (info.task, info.metrics, info.classes) == ("classification", ("top1",), ("0", "1"))
    assert read(info.splits["report"], info).columns[names[0]][0] == f"{names[0]} 34"


def test_labels_that_are_not_whole_ask_for_values(tmp_path):
    write(tmp_path, **texts("sentence1", "sentence2"), label=np.linspace(0, 5, ROWS))
    info = describe(str(tmp_path))
    assert (info.task, info.metrics, info.classes) == ("regression", ("pearson", "spearman"), ())
    assert read(info.splits["report"], info).labels.dtype == np.float32


def test_text_without_labels_is_asked_nothing(tmp_path):
    write(tmp_path, **texts("text"))
    info = describe(str(tmp_path))
    assert (info.task, info.label, "train" in info.splits) == ("none", None, False)


def test_questions_are_known_by_their_answers(tmp_path):
    write(tmp_path, **texts("question", "context"), answers=ANSWERS, id=range(ROWS))
    info = describe(str(tmp_path))
    assert info.preprocess == Text(("question", "context"), 384, stride=128)
    assert (info.task, info.label) == ("question-answering", "answers")
    assert read(info.splits["report"], info).labels[0] == (("con", 0),)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"words": ["a"] * ROWS, "label": CLASSES},
            r"train\.parquet: has the columns words, label: image is needed, or",
        ),
        ({"text": ["a"] * ROWS, "label": [-1] * ROWS}, r"train\.parquet row 0: label -1: this row is not labelled"),
        ({"text": ["a"] * ROWS, "label": ["good"] * ROWS}, "row 0: label 'good' is no integer"),
        ({"text": ["a"] * ROWS, "label": [0.5] * 39 + [float("nan")]}, "row 39: label nan is no finite number"),
        ({"text": ["a"] * ROWS, "label": [False] * ROWS}, "row 0: label False is no integer"),
        ({"text": ["a"] * ROWS, "label": sorted(CLASSES)}, "sorted by label"),
        (
            {**texts("question", "context"), "answers": [{"text": [], "answer_start": []}] * ROWS},
            "row 0: has no answers",
        ),
        ({**texts("question", "context"), "answers": ["a"] * ROWS}, "row 0: has no answers"),
    ],
)
def test_columns_that_cannot_be_used_are_told_with_the_row(tmp_path, columns, said):
    write(tmp_path, **columns)
    with pytest.raises(DataError, match=said) as caught:
        describe(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", [None, 7])
def test_a_cell_that_is_no_text_is_named(tmp_path, cell):
    cells = pa.array([cell] * ROWS, pa.int64() if cell else pa.string())
    write(tmp_path, text=cells, label=CLASSES)
    info = describe(str(tmp_path))
    with pytest.raises(DataError, match=r"train\.parquet row 34: text is (NoneType|int) .*, text is needed"):
        read(info.splits["report"], info)


def test_an_empty_text_is_one(tmp_path):
    write(tmp_path, text=[""] * ROWS, label=CLASSES)
    info = describe(str(tmp_path))
    assert read(Rows(source=f"{tmp_path}:train", stop=2), info).columns["text"].tolist() == ["", ""]


def test_a_label_beyond_the_named_classes_is_told(tmp_path):
    names = {b"huggingface": b'{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}
    table = pa.table({**texts("text"), "label": [row % 3 for row in range(ROWS)]})
    pq.write_table(table.replace_schema_metadata(names), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="label 2 where only 2 classes are named"):
        describe(str(tmp_path))


def test_a_folder_of_two_kinds_is_refused(tmp_path):
    write(tmp_path, **texts("text"), label=CLASSES)
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"holds Parquet and \.npz files"):
        describe(str(tmp_path))
