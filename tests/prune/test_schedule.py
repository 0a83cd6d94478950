import pytest

from edgeprune.errors import ConfigError
from edgeprune.prune.schedule import Schedule


def due(schedule, calls=40):
    return [step for step in range(1, calls) if schedule.is_due(step)]


def test_one_shot_is_due_once():
    assert due(Schedule()) == [1]
    assert due(Schedule(start=7)) == [7]
    assert Schedule(start=7).progress(7) == 1


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_a_gradual_one_is_due_every_so_often_and_ends_with_all(kind):
    schedule = Schedule(kind, start=2, steps=10, every=4)
    assert due(schedule) == [6, 10, 12]
    progress = [schedule.progress(step) for step in due(schedule)]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert schedule.last == 12


def test_the_cubic_one_removes_most_at_first():
    assert Schedule("cubic", start=0, steps=10).progress(5) == 1 - 0.5**3
    assert Schedule("linear", start=0, steps=10).progress(5) == 0.5


@pytest.mark.parametrize("how", [{"steps": 0}, {"every": 0}, {"start": -1}])
def test_what_counts_nothing_is_refused(how):
    with pytest.raises(ConfigError, match="counts calls of step"):
        Schedule("linear", **how)


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="schedule 'cosine': write one of one-shot, linear, cubic"):
        Schedule("cosine", start=0, steps=10)
