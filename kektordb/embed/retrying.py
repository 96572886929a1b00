"""How often, and after which waits, is an embedder asked again?"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kektordb.errors import ConfigError, EmbedderError

__all__ = ["Retrying"]

T = TypeVar("T")

# What a service may ask to wait for is not believed beyond this.
MAX_ASKED_S = 60.0
MAX_RETRIES = 100


@dataclass(frozen=True, slots=True)
class Retrying:
    """Asks again after temporary errors, each time after a longer wait, in part by chance.

    Attributes
    ----------
    retries : int
        After the first try.
    first_wait_s, max_wait_s : float
        A wait is between half and all of `first_wait_s`, doubled with each retry up to `max_wait_s`; longer when the
        service asks for it, up to a minute.
    sleep : callable, optional
        Waits for seconds; by default in a way that ends when the work is given up.
    chance : callable
        Gives numbers from 0 to 1.
    """

    retries: int = 3
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0
    sleep: Callable[[float], object] | None = None
    chance: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or not 0 <= self.retries <= MAX_RETRIES:
            raise ConfigError(f"expected retries to be an integer from 0 to {MAX_RETRIES}, got {self.retries!r:.80}")

    def run(self, call: Callable[[], T], given_up: threading.Event) -> T:
        """Return what `call` returns. Raises its last error; a permanent one at once."""
        n_tried = 0
        while True:
            try:
                return call()
            except EmbedderError as error:
                if error.permanent or n_tried >= self.retries:
                    raise
                self._wait(n_tried, error.retry_after_s, given_up)
                if given_up.is_set():
                    raise
            n_tried += 1

    def _wait(self, n_tried: int, asked_s: float, given_up: threading.Event) -> None:
        wait_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** min(n_tried, 60)) * (0.5 + 0.5 * self.chance())
        wait_s = max(wait_s, min(asked_s, MAX_ASKED_S))
        if self.sleep is None:
            given_up.wait(wait_s)
        else:
            self.sleep(wait_s)
