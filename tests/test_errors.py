from __future__ import annotations

import inspect
import re

from edgeprune import errors

CLASSES = {name: one for name, one in vars(errors).items() if inspect.isclass(one)}


def test_the_drawn_tree_is_the_tree():
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    above = ["EdgePruneError"]
    for line in errors.__doc__.splitlines():
        if found := re.match(r"([│ ]*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            above = [*above[:depth], found[2]]
            drawn[found[2]] = above[depth - 1]
    real = {name: one.__bases__[0].__name__ for name, one in CLASSES.items() if name != "EdgePruneError"}
    assert drawn == real


def test_each_branch_has_the_exit_code_that_is_drawn():
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d)", errors.__doc__ or ""))
    branches = errors.EdgePruneError.__subclasses__()
    assert {one.__name__: str(one.exit_code) for one in branches} == drawn
    assert len({one.exit_code for one in branches}) == len(branches)


def test_an_error_ends_with_the_code_of_its_branch():
    for one in CLASSES.values():
        branch = next((base for base in one.__mro__ if errors.EdgePruneError in base.__bases__), errors.EdgePruneError)
        assert one.exit_code == branch.exit_code
