"""How does long work show how far it is?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from kektordb.errors import ConfigError

__all__ = ["Flow", "Progress", "check_progress", "flow", "onward", "show"]

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

    A `total` of 0 means that it is not known. The work is never disturbed: an error of the user's function is raised
    when the work is over.
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


# Told how many are done, of how many (None: nobody knows), and how many parts they have.
Flow = Callable[[int, int | None, int], None]


@contextmanager
def flow(progress: Progress, what: str, unit: str, part: str = "chunks") -> Iterator[Flow | None]:
    """Give a function that is told how far a flow of documents is, or None when nobody wants to know; see `show`."""
    if progress is True:
        with _flow_bar(what, unit, part) as step:
            yield step
        return
    if progress is False or progress is None:
        yield None
        return
    failure: list[BaseException] = []

    def guarded(done: int, total: int | None, n_parts: int) -> None:
        if not failure:
            try:
                progress(done, done if total is None else total)
            except BaseException as error:
                failure.append(error)

    yield guarded
    if failure:
        raise failure[0]


@contextmanager
def _flow_bar(what: str, unit: str, part: str) -> Iterator[Flow]:
    began = monotonic()

    def note(n_parts: int) -> str:
        return f"{n_parts:,} {part}, {n_parts / max(monotonic() - began, 1e-3):,.0f}/s"

    try:
        from tqdm.auto import tqdm
    except ImportError:

        def step(done: int, total: int | None, n_parts: int) -> None:
            of = "" if total is None else f" of {total:,}"
            text = f"{what}: {done:,}{of} {unit}, {note(n_parts)}{_left(done, total, monotonic() - began)}"
            print(f"\r{text}", end="", file=sys.stderr, flush=True)

        yield step
        print(file=sys.stderr)
        return
    # Its own rate is that of documents, and the time left comes from that.
    with tqdm(desc=what, unit=f" {unit}", bar_format=FLOW_FORMAT) as bar:

        def update(done: int, total: int | None, n_parts: int) -> None:
            bar.total = total
            bar.set_postfix_str(note(n_parts), refresh=False)
            bar.update(done - bar.n)

        yield update


FLOW_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt}{unit}{postfix} [{elapsed}<{remaining}]"


def _left(done: int, total: int | None, took_s: float) -> str:
    if total is None or not 0 < done < total:
        return ""
    return f", {took_s / done * (total - done):,.0f} s left"


@contextmanager
def _bar(total: int, what: str, unit: str) -> Iterator[Callable[[int], None]]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        # Carriage returns only: good enough where nobody installed more.
        def step(done: int) -> None:
            of = f" of {total:,}" if total else ""
            print(f"\r{what}: {done:,}{of} {unit}", end="", file=sys.stderr, flush=True)

        yield step
        print(file=sys.stderr)
        return
    with tqdm(total=total or None, desc=what, unit=unit, unit_scale=True) as bar:

        def update(done: int) -> None:
            bar.update(done - bar.n)

        yield update
