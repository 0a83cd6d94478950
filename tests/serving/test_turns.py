from __future__ import annotations

import threading
import time

from edgeprune.serving.turns import Turns


def test_turns_are_taken_in_the_order_they_were_asked_for():
    turns, order, asked = Turns(), [], []

    def take(name: int) -> None:
        asked.append(name)
        with turns:
            order.append(name)

    with turns:
        threads = []
        for name in range(20):
            thread = threading.Thread(target=take, args=(name,))
            thread.start()
            threads.append(thread)
            while len(turns) <= name:
                time.sleep(1e-4)
        assert len(turns) == 20
    for thread in threads:
        thread.join()
    assert order == asked == list(range(20))
    assert len(turns) == 0


def test_one_at_a_time_and_none_is_forgotten():
    turns, inside, most, count = Turns(), 0, 0, 0

    def work() -> None:
        nonlocal inside, most, count
        for _ in range(2000):
            with turns:
                inside += 1
                most = max(most, inside)
                count += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, count) == (1, 8000)
