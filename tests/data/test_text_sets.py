"""Every text set by its own name, on synthetic rows of the hub's columns and of few rows per split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeprune.data.datasets import describe
from edgeprune.data.splits import resolve_splits
from edgeprune.data.text_sets import TEXT_SETS
from edgeprune.errors import DataError
from edgeprune.recipe import DataPart, Rows

# Published sizes: https://huggingface.co/datasets/nyu-mll/glue
TRAIN_ROWS = {
    "cola": 8_551,
    "sst2": 67_349,
    "mrpc": 3_668,
    "qqp": 363_846,
    "stsb": 5_749,
    "mnli": 392_702,
    "qnli": 104_743,
    "rte": 2_490,
    "wnli": 635,
}
GLUE = [f"glue:{task}" for task in TRAIN_ROWS]


def synthetic_labels(info, rows):
    if info.task == "regression":
        return [round(5 * row / rows, 2) for row in range(rows)]
    if info.task == "question-answering":
        return [{"text": ["film"], "answer_start": [4]}] * rows
    return [row % len(info.classes) for row in range(rows)]


def write_synthetic(root, info, splits=("train", "validation", "test"), rows=40):
    """A data set of the same schema with made-up texts."""
    for split in splits:
        columns = {name: [f"the film {split} {row} {name}" for row in range(rows)] for name in info.columns}
        file = root / info.name.replace(":", "/") / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({**columns, info.label: synthetic_labels(info, rows), "idx": range(rows)}), file)


def small(info, rows=40):
    """The splits of the set where every stored split has `rows` rows."""
    train = info.splits["train"].source
    return DataPart(
        name=info.name,
        length=48,
        train=Rows(source=train, stop=20),
        calibrate=Rows(source=train, stop=20),
        select=Rows(source=train, start=20, stop=rows),
        report=Rows(source=info.splits["report"].source),
    )


@pytest.mark.parametrize("info", [info for info in TEXT_SETS if info.name != "squad"], ids=lambda info: info.name)
def test_synthetic_rows_of_the_hubs_columns_are_read_and_become_tokens(tmp_path, monkeypatch, vocabulary, info):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    splits = [rows.source.rpartition(":")[2] for rows in info.splits.values()]
    write_synthetic(tmp_path, info, set(splits))
    found = resolve_splits(small(info).model_copy(update={"vocabulary": vocabulary}), trains=True)
    assert {name: len(one) for name, one in found.digests.items()} == {
        "train": 20,
        "calibrate": 20,
        "select": 20,
        "report": 40,
    }
    tokens = found.preprocess(found.samples("report").columns)
    assert tokens["input_ids"].shape == (40, 48)
    assert tokens["token_type_ids"].any() == (len(info.columns) == 2)
    expected = np.float32 if info.task == "regression" else np.int64
    assert found.labels("report").dtype == expected


@pytest.mark.parametrize("name", GLUE)
def test_the_last_training_rows_select_and_the_validation_rows_report(name):
    info = describe(name)
    rows = TRAIN_ROWS[name.removeprefix("glue:")]
    assert info.splits["select"].stop == rows
    assert info.splits["select"].start == info.splits["train"].stop == rows - min(5_000, rows // 10)
    assert info.splits["report"].source.startswith(f"{name}:validation")
    assert info.hub.repository == "nyu-mll/glue"
    assert f"glue:{info.hub.configuration}" == name


def test_the_metrics_are_those_of_the_benchmark():
    metrics = {name.removeprefix("glue:"): describe(name).metrics for name in GLUE}
    assert metrics == {
        "cola": ("matthews",),
        "sst2": ("top1",),
        "mrpc": ("top1", "f1"),
        "qqp": ("top1", "f1"),
        "stsb": ("pearson", "spearman"),
        "mnli": ("top1",),
        "qnli": ("top1",),
        "rte": ("top1",),
        "wnli": ("top1",),
    }


def test_the_other_half_of_mnli_is_reported_apart():
    assert describe("glue:mnli").splits["mismatched"] == Rows(source="glue:mnli:validation_mismatched")


def test_a_stored_set_of_other_size_is_told(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    write_synthetic(tmp_path, describe("glue:rte"))
    with pytest.raises(DataError, match="glue:rte:train has 40 rows, none or not all of these"):
        resolve_splits(DataPart(name="glue:rte", vocabulary=vocabulary), trains=True)


def test_rows_of_a_sorted_set_come_mixed_and_every_row_once(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    folder = tmp_path / "imdb"
    folder.mkdir()
    for split in ("train", "test"):
        table = pa.table({"text": [f"{split} {row}" for row in range(40)], "label": [0] * 20 + [1] * 20})
        pq.write_table(table, folder / f"{split}.parquet")
    found = resolve_splits(small(describe("imdb")).model_copy(update={"vocabulary": vocabulary}), trains=True)
    texts = [found.samples(name).columns["text"].tolist() for name in ("train", "select")]
    assert sorted(texts[0] + texts[1]) == sorted(f"train {row}" for row in range(40))
    assert 0.2 < found.labels("train").mean() < 0.8
    again = resolve_splits(small(describe("imdb")).model_copy(update={"vocabulary": vocabulary}), trains=True)
    assert again.fingerprint("train") == found.fingerprint("train")


def test_questions_can_be_judged_without_rows_to_train_on_and_with_synthetic_ones_trained(
    tmp_path, monkeypatch, vocabulary
):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    info = describe("squad")
    source = "squad:validation"
    part = DataPart(
        name="squad",
        vocabulary=vocabulary,
        calibrate=Rows(source=source, stop=10),
        select=Rows(source=source, start=10, stop=20),
        report=Rows(source=source, start=20),
    )
    write_synthetic(tmp_path, info, ["validation"])
    assert "train" not in resolve_splits(part, trains=False).rows
    with pytest.raises(DataError, match="no stored split 'train'"):
        resolve_splits(part, trains=True)
    write_synthetic(tmp_path, info, ["train"])
    assert len(resolve_splits(part, trains=True).samples("train")) == 40
