from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from edgeprune.cache import StageCache
from edgeprune.errors import UnknownNameError
from edgeprune.eviction import DAY_S, by_stage, clean, kept_stages


def write_one(folder: Path) -> None:
    (folder / "one.txt").write_text("1")


def fail(folder: Path) -> None:
    write_one(folder)
    raise InterruptedError


def hang(root: Path, began: Path, *, while_made: bool) -> None:
    def work(folder: Path) -> None:
        write_one(folder)
        if while_made:
            began.touch()
            time.sleep(60)

    stage = StageCache(root).run("s", {}, work, code=())
    began.touch()
    time.sleep(60)
    assert stage.folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_every_stage_is_found_also_one_that_was_left_unfinished(root: Path):
    StageCache(root).run("s", {}, write_one, code=())
    with pytest.raises(InterruptedError):
        StageCache(root).run("t", {}, fail, code=(), resumable=True)
    assert [(kept.stage, kept.size_bytes > 0) for kept in kept_stages(root)] == [("s", True), ("t", True)]
    done = clean(root, time.time())
    assert len(done.removed) == 2
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_an_age_is_the_time_since_the_last_use(root: Path):
    cache = StageCache(root)
    stage = cache.run("s", {}, write_one, code=())
    for path in (stage.folder, stage.folder.with_suffix(".lock")):
        os.utime(path, (0, 0))
    (use,) = by_stage(kept_stages(root), 3 * DAY_S)
    assert use.newest_days == pytest.approx(3)
    cache.run("s", {}, write_one, code=())
    (use,) = by_stage(kept_stages(root), time.time())
    assert use.newest_days < 1


def test_only_what_is_older_goes(root: Path):
    StageCache(root).run("s", {}, write_one, code=())
    now = time.time()
    assert clean(root, now + DAY_S, older_days=2).removed == ()
    assert len(clean(root, now + 3 * DAY_S, older_days=2).removed) == 1


def test_what_is_removed_is_made_again(root: Path):
    StageCache(root).run("s", {}, write_one, code=())
    clean(root, time.time())
    assert not StageCache(root).run("s", {}, write_one, code=()).reused


def test_a_stage_whose_result_is_still_at_hand_stays(root: Path):
    stage = StageCache(root).run("s", {}, write_one, code=())
    assert len(clean(root, time.time()).in_use) == 1
    assert (stage.folder / "one.txt").is_file()
    del stage
    assert len(clean(root, time.time()).removed) == 1


@pytest.mark.parametrize("while_made", [True, False])
def test_a_stage_that_another_process_makes_or_reads_stays(tmp_path: Path, root: Path, while_made: bool):
    began = tmp_path / "began"
    spawn = multiprocessing.get_context("spawn")
    worker = spawn.Process(target=hang, args=(root, began), kwargs={"while_made": while_made})
    worker.start()
    while not began.exists():
        time.sleep(0.01)
    done = clean(root, time.time())
    assert (len(done.removed), len(done.in_use), done.freed_bytes) == (0, 1, 0)
    assert len(list(root.rglob("one.txt"))) == 1
    worker.kill()
    worker.join()
    assert len(clean(root, time.time()).removed) == 1


def test_who_waits_for_a_lock_that_is_cleaned_away_makes_the_stage_alone(tmp_path: Path, root: Path):
    folder = StageCache(root).run("s", {}, write_one, code=()).folder
    lock = folder.with_suffix(".lock")
    with lock.open("a") as stale:
        clean(root, time.time())
        assert not lock.exists()
        assert os.fstat(stale.fileno()).st_nlink == 0
    assert not StageCache(root).run("s", {}, write_one, code=()).reused


def test_what_is_no_stage_stays(root: Path):
    StageCache(root).run("s", {}, write_one, code=())
    (root / "s" / "notes").mkdir()
    (root / "s" / ("0" * 32)).symlink_to(root.parent)
    (root / "readme.txt").write_text("mine")
    assert len(clean(root, time.time()).removed) == 1
    assert sorted(path.name for path in root.rglob("*")) == ["0" * 32, "notes", "readme.txt", "s"]


def test_a_stage_that_is_not_there_gets_the_nearest(root: Path):
    StageCache(root).run("train", {}, write_one, code=())
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        clean(root, time.time(), stage="trian")
