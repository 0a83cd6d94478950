from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import click
import pytest

from edgeprune import errors
from edgeprune.cli.main import COMMANDS, Cli, main

EDGEPRUNE = [sys.executable, "-m", "edgeprune"]
HEAVY = {"numpy", "pydantic", "yaml", "rich", "torch", "onnx", "onnxruntime", "openvino", "matplotlib", "datasets"}

SLEEPING = """
import time, click
from edgeprune.cli.main import main
sleep = click.Command("compile", callback=lambda: print("go", flush=True) or time.sleep(60))
main.get_command = lambda ctx, name: sleep
main(["compile"])
"""
CLEANING = """
import time, click
from edgeprune.cli.main import main
def work():
    try:
        print("go", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.2)
        print("cleaned", flush=True)
main.get_command = lambda ctx, name: click.Command("compile", callback=work)
main(["compile"])
"""


def edgeprune(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGEPRUNE, *arguments], capture_output=True, text=True, check=False)


class Raising(Cli):
    """The group with one command that ends as a test says."""

    def __init__(self, end: Callable[[], object]) -> None:
        super().__init__(name="edgeprune")
        self.end = end

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return click.Command(cmd_name, callback=lambda: self.end())


def ending(end: Callable[[], object]) -> int:
    with pytest.raises(SystemExit) as caught:
        Raising(end).main(["compile"], prog_name="edgeprune")
    return int(caught.value.code or 0)


def raising(error: BaseException) -> Callable[[], object]:
    def end() -> None:
        raise error

    return end


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


def test_without_a_command_the_help_is_shown():
    run = edgeprune()
    assert run.returncode == 2
    assert "Commands:" in run.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("a"), 2),
        (errors.BudgetError("a"), 3),
        (errors.MissingError("a"), 4),
        (errors.DeviceError("a"), 5),
        (errors.FallbackError("a"), 6),
    ],
)
def test_an_error_ends_with_its_own_code(capsys, error, code):
    assert ending(raising(error)) == code
    assert capsys.readouterr().err == "error: a\n"


def test_a_message_of_many_lines_becomes_one(capsys):
    ending(raising(errors.ModelError("first\n  second")))
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "error: out.json: no space left on device: make room\n"),
        (errno.EROFS, "error: out.json: read-only file system: write elsewhere\n"),
        (errno.EACCES, "error: out.json: permission denied: check its permissions\n"),
    ],
)
def test_a_place_that_cannot_be_written_is_no_bug(capsys, number, said):
    assert ending(raising(OSError(number, os.strerror(number), "out.json"))) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), FileNotFoundError(errno.ENOENT, "gone", "f"), KeyError("k")])
def test_a_bug_shows_its_traceback_and_asks_for_a_report(capsys, error):
    assert ending(raising(error)) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert type(error).__name__ in shown
    assert "please report" in shown


def test_an_interrupt_ends_with_130_and_says_so(capsys):
    assert ending(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted: the same command goes on where it stopped"


def test_a_real_interrupt_leaves_no_traceback():
    run = subprocess.Popen([sys.executable, "-c", SLEEPING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(signal.SIGINT)
    _, shown = run.communicate(timeout=10)
    assert run.returncode == 130
    assert "Traceback" not in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_stops_cleans_up_as_an_interrupt_does(number, code):
    run = subprocess.Popen([sys.executable, "-c", CLEANING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(number)
    run.send_signal(number)
    shown, told = run.communicate(timeout=10)
    assert run.returncode == code
    assert shown == "cleaned\n"
    assert told.strip() == f"error: stopped by {number.name}: the same command goes on where it stopped"


def test_an_interrupt_in_the_middle_of_an_exec_ends_with_130_too():
    inside = SLEEPING.replace("time.sleep(60)", "exec('time.sleep(60)')")
    run = subprocess.Popen([sys.executable, "-c", inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=10)
    assert run.returncode == 130


def test_a_signal_that_is_ignored_stays_so():
    hanging_up = "import os, signal, time\n" + SLEEPING.replace("time.sleep(60)", "os.kill(os.getpid(), signal.SIGHUP)")
    run = subprocess.run(["nohup", sys.executable, "-c", hanging_up], capture_output=True, text=True, check=False)
    assert run.returncode == 0


def test_success_ends_with_nought(capsys):
    assert ending(lambda: None) == 0
    assert capsys.readouterr().err == ""


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


def test_letters_that_stdout_cannot_show_are_replaced():
    code = "import click; from edgeprune.cli.main import Cli; from edgeprune.cli.output import Output\n"
    code += "show = click.Command('x', callback=lambda: Output(False, True).show({}, '3 µs'))\n"
    code += "Cli.get_command = lambda *_: show\nCli().main(['compile'])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"3 ?s\n", b"")


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


def test_output_to_a_stream_without_descriptor_works(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert ending(lambda: click.echo("x")) == 0
