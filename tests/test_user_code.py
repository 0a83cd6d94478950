from __future__ import annotations

import sys

import pytest

from edgeprune.errors import MissingError, ModelError
from edgeprune.user_code import accepted, load_function, sources

METRIC = """
import weights

def score(outputs, labels):
    import rules
    return rules.bonus + weights.factor * sum(outputs[key] == labels for key in outputs)

def broken(outputs, labels):
    return outputs["none"]

def leaves(outputs, labels):
    raise SystemExit(3)

def needs_more(outputs, labels):
    import no_such_package_of_anyone
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "weights.py").write_text("factor = 2")
    (tmp_path / "rules.py").write_text("bonus = 0.5")
    path = tmp_path / "own.py"
    path.write_text(METRIC)
    return path


def test_a_function_is_called_with_what_lies_beside_its_file(file):
    score = load_function(f"{file}:score", "metric")
    paths = list(sys.path)
    assert score({"a": 3, "b": 4}, labels=3) == 2.5
    assert score({"a": 3}, 3) == 2.5
    assert sys.path == paths
    assert score.accepted({"labels": 1, "task": "none"}) == {"labels": 1}


def test_two_folders_keep_their_own_neighbours_in_turns(file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.py").write_text("factor = 20")
    (other / "rules.py").write_text("bonus = 5")
    (other / "own.py").write_text(METRIC)
    one, two = load_function(f"{file}:score", "metric"), load_function(f"{other / 'own.py'}:score", "metric")
    assert [one({"a": 1}, 1), two({"a": 1}, 1), one({"a": 1}, 1)] == [2.5, 25, 2.5]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("broken", ModelError, r"broken raised KeyError: 'none' \(line 9\)"),
        ("leaves", ModelError, r"leaves raised SystemExit: 3 \(line 12\)"),
        ("needs_more", MissingError, "needs no_such_package_of_anyone"),
    ],
)
def test_what_a_function_raises_becomes_one_line(file, name, kind, message):
    function = load_function(f"{file}:{name}", "metric")
    with pytest.raises(kind, match=message) as caught:
        function({"a": 1}, 1)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_looked_for_is_called_by_its_name(file):
    with pytest.raises(ModelError, match="no metric 'nothing' in it; it defines broken, leaves, needs_more, score"):
        load_function(f"{file}:nothing", "metric")
    with pytest.raises(ModelError, match=r"a metric is written file\.py:metric"):
        load_function(str(file), "metric")
    with pytest.raises(ModelError, match="no such file, so no metric 'score'"):
        load_function(f"{file.with_name('none.py')}:score", "metric")


def test_the_files_that_decide_are_those_it_imports_from_its_folder(file):
    (file.parent / "stranger.py").write_text("")
    assert [path.name for path in sources(f"{file}:score", "metric")] == ["own.py", "rules.py", "weights.py"]


def test_arguments_are_taken_by_name():
    given = {"a": 1, "b": 2}
    assert accepted(lambda b: 0, given) == {"b": 2}
    assert accepted(lambda **more: 0, given) == given
    assert accepted(lambda b, /: 0, given) == {}
    assert accepted(max, given) == {}
