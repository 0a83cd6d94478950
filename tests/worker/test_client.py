from __future__ import annotations

import signal
import subprocess
import time

import pytest

from edgeprune.errors import DeviceError, InputError, MissingError
from edgeprune.transport.local import LocalTransport
from edgeprune.worker.client import Client


class Scripted(LocalTransport):
    """This machine, with a program of ours in the worker's place."""

    def __init__(self, program):
        super().__init__()
        self.program = program

    def start(self, argv):
        self.started = super().start([self.python, "-c", self.program])
        return self.started


ECHO = "import sys\nfor line in sys.stdin: print('{answer}', flush=True)"


def test_it_asks_and_gets_the_answer():
    with Client(LocalTransport(), "ort-int8") as client:
        assert client.ask("probe")["environment"]["cores"] >= 1


def test_commands_may_be_sent_before_answers_are_read():
    with Client(LocalTransport(), "ort-int8") as client:
        client.send("close")
        client.send("probe")
        assert client.receive() == {}
        assert "environment" in client.receive()


def test_an_error_of_ours_arrives_as_itself():
    with Client(LocalTransport(), "ort-int8") as client, pytest.raises(InputError, match="send `open` first"):
        client.ask("evidence")


def test_a_missing_runtime_arrives_as_itself():
    answer = '{"ok": false, "error": "MissingError", "message": "pip install it"}'
    with (
        Client(Scripted(ECHO.format(answer=answer)), "x") as client,
        pytest.raises(MissingError, match="pip install it"),
    ):
        client.ask("open")


@pytest.mark.parametrize("kind", ["KeyError", "annotations", "nonsense"])
def test_a_bug_of_the_worker_is_a_device_error_that_names_the_variant(kind):
    answer = f'{{"ok": false, "error": "{kind}", "message": "oh"}}'
    with (
        Client(Scripted(ECHO.format(answer=answer)), "ort-int8") as client,
        pytest.raises(DeviceError, match=f"ort-int8: the worker failed: {kind}: oh"),
    ):
        client.ask("open")


RUBBISH = (
    *(b"Segmentation fault?", b"\x00\xff\xfe", b"[]", b"3", b"{}", b'{"ok": 1}', b'{"ok": false}', b"NaN"),
    b"[" * 100_000,
)


@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_a_worker_that_prints_rubbish_is_a_device_error_and_is_ended(rubbish):
    write = f"sys.stdout.buffer.write({rubbish[:40]!r} * {max(1, len(rubbish) // 40)} + b'\\n'); sys.stdout.flush()"
    transport = Scripted(f"import sys\nfor line in sys.stdin: {write}")
    with Client(transport, "one") as client, pytest.raises(DeviceError, match=r"one: the worker said .*, which is no"):
        client.ask("open")
    assert transport.started.returncode is not None


def test_an_answer_without_end_does_not_fill_our_memory(monkeypatch):
    monkeypatch.setattr("edgeprune.worker.client.MOST_LETTERS", 10_000)
    program = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with Client(Scripted(program), "ort-int8") as client, pytest.raises(DeviceError, match="which is no answer"):
        client.ask("open")


def test_a_worker_that_ends_is_told_with_its_last_words():
    program = "import sys; sys.stdin.readline(); print('first', file=sys.stderr); sys.exit('out of luck')"
    with (
        Client(Scripted(program), "ort-int8") as client,
        pytest.raises(DeviceError, match="ort-int8: the worker ended with exit code 1 while it worked: out of luck"),
    ):
        client.ask("open")


def test_a_worker_that_is_killed_is_told_by_the_signal():
    program = "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)"
    with Client(Scripted(program), "ort-int8") as client, pytest.raises(DeviceError, match="was killed by signal 9"):
        client.ask("open")


def test_a_worker_that_hangs_is_killed():
    program = "import time; time.sleep(600)"
    with (
        Client(Scripted(program), "ort-int8", timeout_s=0.2) as client,
        pytest.raises(DeviceError, match=r"was killed because it gave no answer in 0\.2 s"),
    ):
        client.ask("open")


def test_an_engine_may_take_longer_to_build_than_an_answer():
    program = "import sys, time; sys.stdin.readline(); time.sleep(1); print('{\"ok\": true}', flush=True)"
    with Client(Scripted(program), "tensorrt-int8", timeout_s=0.3) as client:
        assert client.ask("open", backend="tensorrt") == {}
    with Client(Scripted(program), "ort-int8", timeout_s=0.3) as client, pytest.raises(DeviceError, match=r"in 0\.3 s"):
        client.ask("open", backend="ort")


def test_a_worker_that_talks_without_end_does_not_block_itself():
    program = (
        "import sys\nfor line in sys.stdin:\n"
        "    for i in range(20000): print('warning', i, file=sys.stderr)\n"
        "    print('{\"ok\": true}', flush=True)"
    )
    with Client(Scripted(program), "ort-int8", timeout_s=30) as client:
        assert client.ask("open") == {}


def test_no_process_outlives_the_block():
    transport = Scripted("import sys\nfor line in sys.stdin: pass")
    with Client(transport, "ort-int8"):
        pass
    assert transport.started.returncode == 0


def test_no_process_outlives_an_interrupt_even_if_it_ignores_everything():
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    transport = Scripted(program)
    begin = time.monotonic()

    def interrupted():
        with Client(transport, "ort-int8"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert transport.started.returncode == -signal.SIGKILL
    assert time.monotonic() - begin < 4


def test_to_speak_to_the_dead_is_a_device_error():
    transport = Scripted("import sys; sys.exit('gone')")
    with Client(transport, "ort-int8") as client:
        transport.started.wait()
        with pytest.raises(DeviceError, match="ended with exit code 1"):
            client.ask("open")
    assert isinstance(transport.started, subprocess.Popen)
