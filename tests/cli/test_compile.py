from __future__ import annotations

import inspect
import re

import click

from edgeprune.api import OPTIONS, compile
from edgeprune.cli.compile import compile_
from edgeprune.recipe import Recipe

PARAMETERS = {parameter.name: parameter for parameter in compile_.params}


def test_the_command_line_and_python_take_the_same_options():
    python = set(inspect.signature(compile).parameters) - {"options", "progress"} | set(OPTIONS)
    assert set(PARAMETERS) - {"as_json", "verbose", "quiet", "dry_run"} == python


def test_the_defaults_in_the_help_are_those_of_the_recipe():
    recipe = Recipe().model_dump()
    told = {
        name: found[1]
        for name, parameter in PARAMETERS.items()
        if isinstance(parameter, click.Option) and (found := re.search(r"\[(.+)\]$", parameter.help or ""))
    }
    for name, places in OPTIONS.items():
        if name in told:
            value = recipe
            for place in places:
                value = value[place]
            assert told[name] == str(value)
    assert {"data", "pruner", "keep", "precision", "max_drop", "epochs", "seed", "device"} <= set(told)
