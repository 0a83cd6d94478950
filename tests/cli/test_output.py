from __future__ import annotations

import json
import logging

import click
import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

from edgeprune.cli.output import OneOf, Output, output_options
from edgeprune.errors import UnknownNameError
from edgeprune.progress import SILENT


def test_json_prints_the_document_and_nothing_else(capsys):
    Output(as_json=True, quiet=False).show({"a": [1, 2]}, Text("not this"))
    assert json.loads(capsys.readouterr().out) == {"a": [1, 2]}


def test_a_table_that_is_not_on_a_terminal_has_100_columns(capsys):
    table = Table(box=None, pad_edge=False)
    table.add_column("x", no_wrap=True)
    table.add_row("a" * 99)
    Output(as_json=False, quiet=False).show({}, table)
    assert "a" * 99 in capsys.readouterr().out


def test_plain_text_is_neither_wrapped_nor_read_as_markup(capsys):
    Output(as_json=False, quiet=False).show({}, "[bold]" + "long " * 50)
    assert capsys.readouterr().out.splitlines() == ["[bold]" + "long " * 50]


PRINTING = """
from torch import nn
print("imported")
class Net(nn.Linear):
    def forward(self, x):
        print("run")
        return super().forward(x.flatten(1))
def make():
    print("made")
    return Net(64, 10)
"""


def test_what_a_users_factory_prints_goes_to_stderr(tmp_path):
    (tmp_path / "net.py").write_text(PRINTING)

    @click.command()
    @output_options
    def command(output: Output) -> None:
        from edgeprune.models.zoo import build

        build(f"{tmp_path / 'net.py'}:make", {"input_shape": (1, 8, 8), "classes": 10})
        output.show({"a": 1})
        print("after")

    shown = CliRunner().invoke(command, ["--json"])
    assert json.loads(shown.stdout) == {"a": 1}
    assert shown.stderr.split() == ["imported", "made", "run", "run", "after"]


def test_quiet_shows_no_progress(capsys):
    with Output(as_json=False, quiet=True).progress() as progress:
        assert progress is SILENT


def test_progress_goes_to_stderr(capsys):
    with Output(as_json=True, quiet=False).progress() as progress:
        progress.say("train: done before")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "train: done before\n")


@pytest.mark.parametrize(("flags", "heard"), [([], set()), (["-v"], {"told"}), (["-vv"], {"told", "detail"})])
def test_v_lets_libraries_speak(flags, heard):
    @click.command()
    @output_options
    def command(output: Output) -> None:
        logging.getLogger("library").info("told")
        logging.getLogger("library").debug("detail")

    shown = CliRunner().invoke(command, flags)
    assert {word for word in ("told", "detail") if word in shown.stderr} == heard
    assert shown.stdout == ""


def test_a_choice_names_the_nearest():
    choice = OneOf("pruner", ("none", "magnitude"))
    assert choice.convert("none", None, None) == "none"
    with pytest.raises(UnknownNameError, match="unknown pruner 'magnitud': did you mean 'magnitude'"):
        choice.convert("magnitud", None, None)
