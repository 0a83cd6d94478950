"""Which variants of a ladder are in memory, within a cap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from edgeprune.backends.backend import Runner
from edgeprune.errors import BudgetError, EdgePruneError
from edgeprune.measure.memory import resident_bytes

MS = 1e3
MIB = 1 << 20


class Residency:
    """Opens runners by their place in the ladder, and closes others where the cap leaves no room for them.

    What a runner takes is how much this process grew when it was opened and had run once, but at least its files: a
    process that gave memory back before grows less. All but `fetch` is for one thread at a time.
    """

    def __init__(
        self,
        openers: Sequence[Callable[[], Runner]],
        *,
        least_bytes: Sequence[int] = (),
        cap_bytes: int | None = None,
        grown: Callable[[], int] = resident_bytes,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`openers` give a runner that has run once; `least_bytes` their files; `grown` the size of this process."""
        self._openers, self._cap_bytes, self._grown, self._clock = openers, cap_bytes, grown, clock
        self._runners: dict[int, Runner] = {}
        self._fetched: dict[int, Runner | EdgePruneError] = {}
        self._least_bytes = least_bytes or (0,) * len(openers)
        self._thread: threading.Thread | None = None
        self.takes_bytes: dict[int, int] = {}
        self.opening_ms: dict[int, float] = {}

    @property
    def places(self) -> tuple[int, ...]:
        """Of those in memory."""
        return tuple(sorted(self._runners))

    def open(self, index: int) -> Runner:
        """The runner, opened now if need be; others are closed before, the most precise first, if the cap wants it.

        Raises whatever the runtime raises, and BudgetError where the runner alone takes more than the cap.
        """
        if (kept := self._runners.get(index)) is not None:
            return kept
        for other in self.in_the_way(index):
            self.close(other)
        self._runners[index] = self._opened(index)
        if self._cap_bytes is not None and self.takes_bytes[index] > self._cap_bytes:
            taken = self.takes_bytes[index]
            self.close(index)
            raise BudgetError(
                f"a variant takes {taken / MIB:.1f} MiB of memory, {self._cap_bytes / MIB:.1f} allowed: allow more, or"
                " leave its precision out"
            )
        return self._runners[index]

    def in_the_way(self, index: int) -> tuple[int, ...]:
        """Those that must go before that one may come: all, where nobody knows yet what it takes."""
        if self._cap_bytes is None or index in self._runners:
            return ()
        if index not in self.takes_bytes:
            return self.places
        room, going = self._cap_bytes - self.takes_bytes[index], []
        taken = sum(self.takes_bytes[one] for one in self._runners)
        for other in self.places:
            if taken > room:
                going.append(other)
                taken -= self.takes_bytes[other]
        return tuple(going)

    def fit(self, one: int, other: int) -> bool:
        """Whether two that were opened before may be in memory together."""
        return self._cap_bytes is None or self.takes_bytes[one] + self.takes_bytes[other] <= self._cap_bytes

    def fetch(self, index: int) -> None:
        """Open it in another thread, for `arrived` to take; one at a time."""
        if self._thread is None and index not in self._runners:
            self._thread = threading.Thread(target=self._fetch, args=(index,), name="edgeprune-fetch", daemon=True)
            self._thread.start()

    def arrived(self, index: int) -> bool:
        """Whether what was fetched is there now. Raises what opening it raised."""
        if self._thread is None or self._thread.is_alive():
            return index in self._runners
        self._thread = None
        for place, found in list(self._fetched.items()):
            del self._fetched[place]
            if isinstance(found, EdgePruneError):
                raise found
            self._runners[place] = found
        return index in self._runners

    def close(self, index: int) -> None:
        """Give its memory back."""
        if (runner := self._runners.pop(index, None)) is not None:
            runner.close()

    def close_all(self) -> None:
        """Give all memory back."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for found in self._fetched.values():
            if not isinstance(found, EdgePruneError):
                found.close()
        self._fetched.clear()
        for index in self.places:
            self.close(index)

    def _fetch(self, index: int) -> None:
        try:
            self._fetched[index] = self._opened(index)
        except EdgePruneError as error:
            self._fetched[index] = error

    def _opened(self, index: int) -> Runner:
        before, begin = self._grown(), self._clock()
        runner = self._openers[index]()
        self.opening_ms[index] = MS * (self._clock() - begin)
        grown = max(self._grown() - before, self._least_bytes[index])
        self.takes_bytes[index] = max(self.takes_bytes.get(index, 0), grown)
        return runner
