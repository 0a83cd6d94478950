"""A lock that is handed on in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """`with turns:` serves one thread at a time, first come, first served; its length is how many wait.

    The lock of `threading` may pass over who has waited longest, which would reorder requests.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __enter__(self) -> Turns:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return self
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()  # until the one before hands it on
        except BaseException:  # Ctrl-C while waiting: leave the queue, or pass on what was just handed over
            with self._mutex:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
