from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeprune.bundle import Task
from edgeprune.data.judges import judge
from edgeprune.data.splits import resolve_splits
from edgeprune.errors import DataError, EdgePruneError, ModelError, UnknownNameError
from edgeprune.recipe import DataPart

METRIC = """
import numpy as np

def sharp(outputs, labels):
    assert labels.shape == (len(outputs["logits"]),)
    return float(np.mean(outputs["logits"].argmax(1) == labels) + 0 * outputs["hidden"].sum())

def fails(outputs, labels):
    return 1 / 0

def nothing(outputs, labels):
    return float("nan")

def text(outputs, labels):
    return "good"

def bright(outputs, labels):
    return np.mean([answer in right for answer, right in zip(outputs["text"], labels)])
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(METRIC)
    return lambda name: f"{tmp_path}/own.py:{name}"


def one_hot(labels, wrong=0):
    scores = np.eye(10, dtype=np.float32)[labels]
    scores[:wrong] = scores[:wrong, ::-1]
    return scores


def test_classes_are_judged_by_the_output_that_has_a_score_for_each():
    splits = resolve_splits(DataPart(), trains=False)
    found = judge(splits, "report", Task("classification", ("top1",)))
    answers = found.answers({"hidden": np.zeros((400, 7)), "logits": one_hot(splits.labels("report"))})
    assert found.value(found.metrics[0], answers).estimate == 1


def test_nothing_is_judged_where_nothing_is_asked():
    splits = resolve_splits(DataPart(), trains=False)
    assert judge(splits, "report", Task("none", ())) is None
    with pytest.raises(UnknownNameError, match="did you mean 'top1'"):
        judge(splits, "report", Task("classification", ("top2",)))


def test_a_metric_of_the_users_own_sees_all_outputs_and_has_an_interval(own):
    splits = resolve_splits(DataPart(metric=own("sharp")), trains=False)
    found = judge(splits, "report", Task("classification", ("sharp",)))
    assert [metric.name for metric in found.metrics] == ["sharp"]
    labels = splits.labels("report")
    before = found.answers({"logits": one_hot(labels), "hidden": np.ones((400, 3, 2))})
    after = found.answers({"logits": one_hot(labels, wrong=40), "hidden": np.ones((400, 3, 2))})
    value = found.value(found.metrics[0], after)
    assert value.estimate == pytest.approx(0.9)
    assert 0.85 < value.low < 0.9 < value.high < 0.95  # two standard errors of 0.9 over 400 are 3 points
    drop = found.drop(found.metrics[0], before, after)
    assert drop.estimate == pytest.approx(0.1)
    assert 0 < drop.low < 0.1 < drop.high


def test_a_metric_may_judge_what_no_task_does(tmp_path, own):
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, label=x)
    (tmp_path / "error.py").write_text("def close(outputs, labels):\n    return -abs(outputs['y'] - labels).mean()\n")
    part = DataPart(name=str(tmp_path / "x.npz"), metric=f"{tmp_path}/error.py:close")
    splits = resolve_splits(part, trains=False)
    found = judge(splits, "report", Task("none", ("close",)))
    answers = found.answers({"y": splits.labels("report")})
    assert found.value(found.metrics[0], answers).estimate == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", r"own\.py: fails raised ZeroDivisionError: division by zero \(line 9\)"),
        ("nothing", r"own\.py: nothing \(line 11\) returned nan for 400 samples: a finite number is needed"),
        ("text", r"own\.py: text \(line 14\) returned 'good'"),
    ],
)
def test_a_metric_that_gives_no_number_is_told_with_its_line(own, name, said):
    splits = resolve_splits(DataPart(metric=own(name)), trains=False)
    found = judge(splits, "report", Task("classification", (name,)))
    with pytest.raises(EdgePruneError, match=said) as caught:
        found.value(found.metrics[0], found.answers({"logits": np.zeros((400, 10))}))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_metric_that_is_not_there_is_told_before_any_work(own):
    with pytest.raises(ModelError, match="no metric 'sharpest' in it; it defines bright, fails, nothing, sharp, text"):
        resolve_splits(DataPart(metric=own("sharpest")), trains=False)


def test_outputs_without_a_row_for_each_sample_are_refused(own):
    splits = resolve_splits(DataPart(metric=own("sharp")), trains=False)
    found = judge(splits, "report", Task("classification", ("sharp",)))
    with pytest.raises(DataError, match=r"output logits \[3, 10\]: one row for each of 400 samples"):
        found.answers({"logits": np.zeros((3, 10))})


@pytest.fixture
def questions(tmp_path, vocabulary):
    """Synthetic questions whose answer is a letter of a long context."""
    rows = 60
    letters = [chr(ord("a") + row % 20) for row in range(rows)]
    context = " ".join(chr(ord("a") + number) for number in range(20))
    answers = [{"text": [letter, "zz"], "answer_start": [context.index(letter), 0]} for letter in letters]
    (tmp_path / "questions").mkdir()
    table = pa.table(
        {"question": [f"who {row}" for row in range(rows)], "context": [context] * rows, "answers": answers}
    )
    pq.write_table(table, tmp_path / "questions" / "train.parquet")
    file = tmp_path / "how.yaml"
    file.write_text("{length: 16, stride: 4}")
    return DataPart(name=str(tmp_path / "questions"), vocabulary=vocabulary, preprocess=file)


@pytest.mark.parametrize("metric", [None, "bright"])
def test_rows_of_outputs_are_answers_to_the_questions_they_belong_to(questions, own, metric):
    part = questions.model_copy(update={"metric": metric and own(metric)})
    splits = resolve_splits(part, trains=True)
    given = splits.preprocess
    found = judge(splits, "report", Task(splits.info.task, (metric,) if metric else splits.info.metrics))
    rows = np.concatenate([given(part.columns)["input_ids"] for part in splits.batches("report", 4)])
    assert len(rows) > found.samples == 9
    wanted = [given._plain.token_to_id(answers[0].text) for answers in splits.labels("report")]
    start = np.zeros(rows.shape, np.float32)
    row_of = np.repeat(np.arange(9), len(rows) // 9)
    for row, sample in enumerate(row_of):
        start[row] = rows[row] == wanted[sample]
    answers = found.answers({"start_logits": start, "end_logits": start})
    for one in found.metrics:
        assert found.value(one, answers).estimate == 1
    wrong = found.answers({"start_logits": -start, "end_logits": -start})
    assert found.drop(found.metrics[0], answers, wrong).estimate == 1
