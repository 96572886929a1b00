"""How does long work show how far it is?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kektordb.errors import ConfigError

__all__ = ["Progress", "check_progress", "onward", "show"]

# False for nothing, True for a bar on stderr, or a function of (done, total).
Progress = bool | Callable[[int, int], None]


def check_progress(progress: object) -> None:
    """Raise ConfigError unless `progress` is of type `Progress`; None counts as False."""
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise ConfigError(f"expected progress to be True, False or a function of (done, total), got {progress!r:.80}")


def onward(step: Callable[[int], None] | None, start: int) -> Callable[[int], None]:
    """Return a function that is told how much of one part is done, and tells `step` how much of all is."""
    return (lambda _: None) if step is None else (lambda done: step(start + done))


@contextmanager
def show(progress: Progress, total: int, what: str, unit: str) -> Iterator[Callable[[int], None] | None]:
    """Give a function that is told how much is done, or None when nobody wants to know.

    The work is never disturbed: an error of the user's function is raised when the work is over.
    """
    if progress is False or progress is None:
        yield None
        return
    if progress is True:
        with _bar(total, what, unit) as step:
            yield step
        return
    failure: list[BaseException] = []

    def guarded(done: int) -> None:
        if not failure:
            try:
                progress(done, total)
            except BaseException as error:
                failure.append(error)

    yield guarded
    if failure:
        raise failure[0]


@contextmanager
def _bar(total: int, what: str, unit: str) -> Iterator[Callable[[int], None]]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        # Carriage returns only: good enough where nobody installed more.
        def step(done: int) -> None:
            print(f"\r{what}: {done:,} of {total:,} {unit}", end="", file=sys.stderr, flush=True)

        yield step
        print(file=sys.stderr)
        return
    with tqdm(total=total, desc=what, unit=unit, unit_scale=True) as bar:

        def update(done: int) -> None:
            bar.update(done - bar.n)

        yield update
