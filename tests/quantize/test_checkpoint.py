from dataclasses import dataclass, field

import numpy as np
import pytest

from edgeprune.progress import Silent
from edgeprune.quantize.checkpoint import Seen, load, save
from edgeprune.quantize.observers.minmax import MinMax

JOB = {"model": "abc", "observer": "minmax"}


@dataclass
class Heard(Silent):
    said: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def file(tmp_path):
    seen = Seen({"a": MinMax(), "b/0": MinMax()}, batches=3, samples=96)
    for value, observer in enumerate(seen.observers.values()):
        observer.observe(np.array([-value, 5.0]))
    save(tmp_path / "checkpoint.npz", seen, JOB)
    return tmp_path / "checkpoint.npz"


def test_what_was_seen_comes_back(file):
    seen = load(file, ["a", "b/0"], MinMax, JOB)
    assert (seen.batches, seen.samples) == (3, 96)
    assert [(one.range().low, one.range().high) for one in seen.observers.values()] == [(0, 5), (-1, 5)]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("values", "job"), [(["a"], JOB), (["a", "c"], JOB), (["a", "b/0"], {**JOB, "observer": "mse"})]
)
def test_one_of_another_calibration_is_not_used_and_that_is_said(file, values, job):
    heard = Heard()
    assert load(file, values, MinMax, job, heard) is None
    assert "made for another calibration: it starts anew" in heard.said[0]


def test_one_that_is_torn_anywhere_is_not_used_and_that_is_said(file):
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        heard = Heard()
        assert load(file, ["a", "b/0"], MinMax, JOB, heard) is None
        assert "torn or damaged" in heard.said[0]


def test_one_that_was_altered_is_not_used(file):
    whole = file.read_bytes()
    where = whole.index(np.array([0, 5.0]).tobytes())
    file.write_bytes(whole[:where] + b"\x01" + whole[where + 1 :])
    assert load(file, ["a", "b/0"], MinMax, JOB) is None


def test_none_is_no_fault(tmp_path):
    heard = Heard()
    assert load(tmp_path / "none.npz", [], MinMax, JOB, heard) is None
    assert not heard.said
