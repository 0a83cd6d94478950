"""What docs/data.md shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgeprune.bundle import Task
from edgeprune.data.datasets import KNOWN, describe
from edgeprune.data.folder import TEXTS
from edgeprune.data.judges import judge
from edgeprune.data.preparing import described, preprocessing
from edgeprune.data.preprocess_file import IMAGES, PreprocessFile
from edgeprune.data.preprocess_file import TEXTS as TEXT_KEYS
from edgeprune.data.splits import resolve_splits
from edgeprune.recipe import DataPart

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_every_data_set_stands_in_the_table_with_its_scores():
    for name, info in KNOWN.items():
        if name != "cifar10_jpeg75":  # of use here only
            row = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line)
            assert row.endswith(f"| {', '.join(f'`{metric}`' for metric in info.metrics)} |")


def test_all_columns_of_text_are_told():
    told = " ".join(PAGE.split())
    for names in TEXTS:
        assert " + ".join(f"`{name}`" for name in names) in told


def test_the_arrays_it_writes_are_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[0], {})
    info = describe("sensors.npz")
    assert (info.columns, info.classes) == (("signal",), ("0", "1"))


def test_its_files_say_what_they_say_and_all_that_can_be_said(tmp_path, vocabulary, monkeypatch):
    images, text = (yaml.safe_load(one) for one in YAML)
    assert images.keys() | {"size"} == IMAGES
    assert text.keys() | {"stride"} == TEXT_KEYS
    assert set(PreprocessFile.model_fields) == IMAGES | TEXT_KEYS
    (tmp_path / "vocab.txt").write_bytes(vocabulary.read_bytes())
    made = []
    for name, one in (("cifar10", YAML[0]), ("imdb", YAML[1])):
        file = tmp_path / f"{name}.yaml"
        file.write_text(one)
        part = DataPart(name=name, preprocess=file)
        made.append(preprocessing(part, described(part)))
    assert made[0].specs[0].shape == ("batch", 224, 224, 3)
    assert (made[1].length, made[1].text.keep) == (200, "both")


def test_its_metric_scores(tmp_path):
    (tmp_path / "score.py").write_text(PYTHON[1])
    splits = resolve_splits(DataPart(metric=f"{tmp_path}/score.py:balanced"), trains=False)
    found = judge(splits, "report", Task("classification", ("balanced",)))
    right = found.answers({"output": np.eye(10)[splits.labels("report")]})
    assert found.value(found.metrics[0], right).estimate == pytest.approx(1)
