from typing import get_args

import pytest

from edgeprune import recipe
from edgeprune.cli import job_options
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION, UNJUDGED


def test_the_choices_are_those_of_the_recipe():
    assert job_options.PRUNERS == recipe.PRUNERS
    assert job_options.PRECISIONS == recipe.PRECISIONS
    assert job_options.OBSERVERS == recipe.OBSERVERS
    (tasks,) = (one for one in get_args(recipe.DataPart.model_fields["task"].annotation) if get_args(one))
    assert get_args(tasks) == job_options.TASKS == (CLASSIFICATION, REGRESSION, QUESTIONS, UNJUDGED)


def test_options_stand_in_the_order_they_are_asked_for():
    @job_options.job_options("seed", "data", "force")
    def command():
        """Nothing."""

    assert [parameter.name for parameter in reversed(command.__click_params__)] == ["seed", "data", "force"]


def test_an_option_that_is_none_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        job_options.job_options("sead")(lambda: None)
