from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.transport.local import LocalTransport


@pytest.fixture
def transport():
    return LocalTransport()


def test_what_was_pushed_comes_back(transport, tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xff")
    transport.push(tmp_path / "a", "deep/folder/a")
    transport.pull("deep/folder/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_a_process_starts_where_the_files_lie(transport, tmp_path):
    (tmp_path / "a").write_text("hello")
    transport.push(tmp_path / "a", "a.txt")
    process = transport.start([transport.python, "-c", "print(open('a.txt').read())"])
    assert process.communicate()[0] == "hello\n"


def test_a_process_starts_outside_where_it_is_told_to(transport):
    process = transport.start([transport.python, "-c", "import os; print(os.getcwd())"], outside=True)
    assert process.communicate()[0].strip() == transport.base


def test_a_process_finds_this_edgeprune(transport):
    process = transport.start([transport.python, "-c", "import edgeprune; print(edgeprune.__file__)"])
    import edgeprune

    assert process.communicate()[0].strip() == edgeprune.__file__


def test_a_process_has_a_session_of_its_own_so_that_an_interrupt_is_ours_alone(transport):
    process = transport.start([transport.python, "-c", "import os; print(os.getsid(0) == os.getpid())"])
    assert process.communicate()[0] == "True\n"


def test_the_folder_goes_away_with_the_process_that_made_it(tmp_path):
    (tmp_path / "a").write_text("hello")
    code = (
        "import sys; from pathlib import Path; from edgeprune.transport.local import LocalTransport\n"
        "t = LocalTransport(); t.push(Path(sys.argv[1]), 'a')\n"
        "p = t.start([t.python, '-c', 'import os; print(os.getcwd())']); print(p.communicate()[0])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True, cwd=root
    )
    assert not Path(done.stdout.strip()).exists()
