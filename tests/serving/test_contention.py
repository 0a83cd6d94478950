from __future__ import annotations

import os
import time

from edgeprune.measure.condition import ConditionReader
from edgeprune.serving.contention import Contender, Contention


def test_it_uses_the_processor_in_its_window_and_is_gone_after():
    cores = len(os.sched_getaffinity(0))
    with Contender(Contention(0.2, 0.7, cores)) as other:
        pids = [process.pid for process in other._running]
        other.start()
        time.sleep(0.25)
        reader = ConditionReader()
        time.sleep(0.35)
        busy = reader.read().cpu
    assert busy is not None
    assert busy > 0.8 * cores / (os.cpu_count() or 1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)  # noqa: PTH110


def test_without_one_nothing_is_started():
    with Contender(None) as other:
        other.start()
        assert other._running == []
