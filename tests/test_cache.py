import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from edgeprune.cache import StageCache, code_version
from edgeprune.errors import OutputError


def write_one(folder: Path) -> None:
    (folder / "one.txt").write_text("1")


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache")


def test_a_stage_is_done_once_for_equal_inputs(cache: StageCache):
    first = cache.run("s", {"a": 1}, write_one, code=("errors",))
    second = cache.run("s", {"a": 1}, lambda folder: pytest.fail("done twice"), code=("errors",))
    assert (first.reused, second.reused) == (False, True)
    assert (second.folder / "one.txt").read_text() == "1"


def test_other_inputs_other_code_and_other_earlier_stages_are_other_stages(cache: StageCache):
    a = cache.run("s", {"a": 1}, write_one, code=("errors",))
    b = cache.run("s", {"a": 2}, write_one, code=("errors",))
    c = cache.run("s", {"a": 1}, write_one, code=("tensor",))
    d = cache.run("t", {"before": a}, write_one, code=())
    e = cache.run("t", {"before": b}, write_one, code=())
    assert len({stage.key for stage in (a, b, c, d, e)}) == 5


def test_the_version_of_code_covers_every_file_of_a_package():
    assert code_version(("backends",)) != code_version(("backends/ort",))


def test_a_damaged_file_makes_the_stage_again(cache: StageCache):
    stage = cache.run("s", {}, write_one, code=())
    (stage.folder / "one.txt").write_text("2")
    again = cache.run("s", {}, write_one, code=())
    assert not again.reused
    assert (again.folder / "one.txt").read_text() == "1"


def test_a_record_cut_short_makes_the_stage_again(cache: StageCache):
    stage = cache.run("s", {}, write_one, code=())
    (stage.folder / "stage.json").write_text('{"files": ')
    assert not cache.run("s", {}, write_one, code=()).reused


def test_again_redoes_a_finished_stage(cache: StageCache):
    cache.run("s", {}, write_one, code=())
    assert not StageCache(cache.root, again=True).run("s", {}, write_one, code=()).reused


def test_a_failed_stage_leaves_nothing_finished_and_the_next_attempt_starts_clean(cache: StageCache):
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cache.run("s", {}, fail, code=())
    stage = cache.run("s", {}, write_one, code=())
    assert sorted(path.name for path in stage.folder.iterdir()) == ["one.txt", "stage.json"]


def test_a_resumable_stage_finds_what_its_last_attempt_left(cache: StageCache):
    def fail(folder: Path) -> None:
        (folder / "checkpoint").write_text("epoch 3")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cache.run("s", {}, fail, code=(), resumable=True)

    def resume(folder: Path) -> None:
        assert (folder / "checkpoint").read_text() == "epoch 3"
        (folder / "checkpoint").unlink()

    stage = cache.run("s", {}, resume, code=(), resumable=True)
    assert json.loads((stage.folder / "stage.json").read_text())["files"] == {}


def slow_stage(root: Path, order: Path) -> None:
    def work(folder: Path) -> None:
        with order.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)

    StageCache(root).run("s", {}, work, code=())


def test_two_processes_that_want_one_stage_make_it_once(tmp_path: Path):
    order = tmp_path / "order"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=slow_stage, args=(tmp_path / "cache", order)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert order.read_text() == "made\n"


def hang(root: Path, began: Path) -> None:
    def work(folder: Path) -> None:
        began.touch()
        time.sleep(60)

    StageCache(root).run("s", {}, work, code=())


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    began = tmp_path / "began"
    worker = multiprocessing.get_context("spawn").Process(target=hang, args=(tmp_path / "cache", began))
    worker.start()
    while not began.exists():
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert not StageCache(tmp_path / "cache").run("s", {}, write_one, code=()).reused


def test_a_cache_folder_that_cannot_be_made_is_one_line_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="set EDGEPRUNE_CACHE=DIR"):
        StageCache(tmp_path / "file").run("s", {}, write_one, code=())
