"""When is what failed tried again? Later each time; nothing is given up."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

__all__ = ["EMBEDDER", "PASS", "Failure", "Failures"]

# What fails beside documents, whose keys are other texts: the embedder, whatever it is given, and a pass as a whole.
EMBEDDER, PASS = "", "\0"

FIRST_S = 1.0
EMBEDDER_S = 300.0
DOCUMENT_S = 3600.0


class Failure(msgspec.Struct, frozen=True):
    """What failed, and when it is tried again.

    Attributes
    ----------
    error : str
    n_attempts : int
    retry_at : float
        Seconds of the clock.
    stamp : str
        Of the document then: another one is tried at once.
    """

    error: str
    n_attempts: int
    retry_at: float
    stamp: str


class Failures:
    """Documents that failed, by key, and `EMBEDDER` and `PASS`.

    Kept in memory: after a restart everything is tried at once. The threads of a pass change it while others look.

    Parameters
    ----------
    clock : callable
        Seconds.
    chance : callable
        From 0 to 1, so that not all who wait for a service come back at the same moment.
    """

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._found: dict[str, Failure] = {}

    def __len__(self) -> int:
        return len(self._found)

    def note(self, key: str, error: object, stamp: str = "", after_s: float = 0.0) -> Failure:
        """Note that it failed, once more; return what is known of it now."""
        before = self._found.get(key)
        n = 1 if before is None or before.stamp != stamp else before.n_attempts + 1
        most = EMBEDDER_S if key in (EMBEDDER, PASS) else DOCUMENT_S
        wait_s = min(most, FIRST_S * 2.0 ** min(n - 1, 20)) * (0.75 + 0.5 * self._chance())
        failure = Failure(str(error), n, self._clock() + max(wait_s, min(after_s, most)), stamp)
        self._found[key] = failure
        return failure

    def forget(self, key: str) -> None:
        """Note that it went well, or is not there any more."""
        self._found.pop(key, None)

    def get(self, key: str) -> Failure | None:
        """Return what is known; None when it has not failed."""
        return self._found.get(key)

    def waits(self, key: str, stamp: str = "") -> bool:
        """Tell whether it is too early to try again."""
        found = self._found.get(key)
        return found is not None and found.stamp == stamp and self._clock() < found.retry_at

    def next_at(self) -> float | None:
        """Return when the next one is to be tried; None when nothing has failed."""
        # While nothing goes at all, that alone decides.
        if (whole := self.whole()) is not None:
            return whole.retry_at
        return min((failure.retry_at for failure in list(self._found.values())), default=None)

    def hurry(self) -> None:
        """Let everything be tried at once: somebody asked for it."""
        for key, found in list(self._found.items()):
            self._found[key] = Failure(found.error, found.n_attempts, self._clock(), found.stamp)

    def documents(self) -> list[tuple[str, Failure]]:
        """Return the documents that failed, sorted."""
        return sorted((key, failure) for key, failure in list(self._found.items()) if key not in (EMBEDDER, PASS))

    def whole(self) -> Failure | None:
        """Return what keeps everything from going on, if there is such a thing."""
        return self._found.get(PASS) or self._found.get(EMBEDDER)
