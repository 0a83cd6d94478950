from __future__ import annotations

import os
import subprocess
import sys
import time

import click
import pytest

from edgeprune.cli.main import COMMANDS, main

EDGEPRUNE = [sys.executable, "-m", "edgeprune"]
HEAVY = {"numpy", "pydantic", "yaml", "rich", "torch", "onnx", "onnxruntime", "openvino", "matplotlib", "datasets"}


def edgeprune(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGEPRUNE, *arguments], capture_output=True, text=True, check=False)


def test_help_answers_within_three_tenths_of_a_second():
    def seconds() -> float:
        began = time.monotonic()
        assert edgeprune("--help").returncode == 0
        return time.monotonic() - began

    assert min(seconds() for _ in range(5)) < 0.3


def test_help_imports_nothing_that_it_does_not_need():
    code = "import sys; from edgeprune.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    assert not loaded & HEAVY
    assert "edgeprune.cli.compile" not in run.stderr.split()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_is_listed_is_there_with_the_help_that_is_listed(name):
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name].help
    assert name in edgeprune("--help").stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_json_and_help(name):
    command = main.get_command(click.Context(main), name)
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        options = {option for parameter in leaf.params for option in parameter.opts}
        assert {"--json", "-v", "-q"} <= options


def test_the_version_is_the_one_of_the_package():
    import edgeprune as package

    assert edgeprune("--version").stdout == f"edgeprune {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compil"], "unknown command 'compil': did you mean 'compile'? known: bench, cache, compile"),
        (["compile", "--tarjet", "cpu"], "--target"),
        (["compile", "--precision", "int7"], "unknown precision 'int7': did you mean 'int8'?"),
        (["compile", "--pruner", "magnitud"], "did you mean 'magnitude'?"),
        (["compile", "--keep", "half"], "'half' is not a valid float"),
        (["compile", "--target", "jetsn"], "unknown target 'jetsn': did you mean 'jetson'?"),
        (["targets", "show", "rpi"], "did you mean 'rpi5'?"),
        (["bench"], "Missing argument 'BUNDLE...'"),
        (["bench", "nowhere"], "nowhere: no bundle here"),
        (["report", "nowhere"], "nowhere: no such folder"),
        (["show", "nowhere"], "nowhere: no bundle here"),
        (["diff", "nowhere", "nowhere"], "nowhere: no bundle here"),
        (["run", "nowhere", "--input", "x.npy"], "nowhere: no bundle here"),
        (["run", "nowhere"], "Missing option '--input'"),
        (["targets", "check", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["targets", "detect", "-o", "mine.json"], "mine.json: a target file ends in .yaml"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_mistake_ends_with_two_and_one_line_that_says_what_to_do(arguments, said):
    run = edgeprune(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: ")
    assert said in run.stderr


def test_a_command_that_is_stopped_says_how_to_go_on(capsys, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "get_command", lambda ctx, name: click.Command(name, callback=interrupted))
    with pytest.raises(SystemExit, match="130"):
        main(["compile"])
    assert capsys.readouterr().err.strip() == "error: interrupted: the same command goes on where it stopped"


def test_without_a_command_the_help_is_shown():
    run = edgeprune()
    assert run.returncode == 2
    assert "Commands:" in run.stderr


@pytest.mark.parametrize(
    "command", ["targets list", "targets list --json", "targets show cpu", "--help", "compile --help", "--version"]
)
def test_a_reader_that_goes_away_is_no_error(command):
    script = f"({sys.executable} -m edgeprune {command}; echo $? >&2) | true"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == "141\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
@pytest.mark.parametrize("command", ["targets list", "targets list --json", "--help"])
def test_a_closed_stream_is_no_error(command, closed):
    run = subprocess.run(["bash", "-c", f"{sys.executable} -m edgeprune {command} {closed}"], capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
    assert bool(run.stdout) == (closed != ">&-")


def test_completion_for_a_shell_is_there():
    run = subprocess.run(
        EDGEPRUNE, env=os.environ | {"_EDGEPRUNE_COMPLETE": "bash_source"}, capture_output=True, check=False
    )
    assert b"complete" in run.stdout


def completed(words: str) -> tuple[set[str], set[str]]:
    """What a shell is offered for the last of `words`, and all that was imported for it."""
    code = "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from edgeprune.cli.main import main\nmain(prog_name='edgeprune')"
    environment = {"_EDGEPRUNE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    run = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    return {line.partition(",")[2] for line in run.stdout.splitlines()}, set(run.stderr.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("edgeprune ", set(COMMANDS)),
        ("edgeprune co", {"compile"}),
        ("edgeprune targets de", {"detect"}),
        ("edgeprune cache clean --", {"--older", "--stage", "--json", "--verbose", "--quiet", "--help"}),
        ("edgeprune compile --prec", {"--precision"}),
        ("edgeprune compile --precision in", {"int8", "int4"}),
        ("edgeprune nonsense ", set(COMMANDS)),
    ],
)
def test_a_shell_is_offered_commands_and_options_and_nothing_heavy_is_imported_for_it(words, offered):
    found, loaded = completed(words)
    assert found == offered
    assert not {name.split(".")[0] for name in loaded} & HEAVY
