"""How does work that must be whole go on when Ctrl-C is pressed? The interrupt waits for the next good place.

Python raises KeyboardInterrupt between any two bytecodes of the main thread: also between the taking of a lock and the
``with`` that gives it back, and between two files that belong together.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from time import monotonic
from types import FrameType
from typing import Any, ParamSpec, TypeVar

__all__ = ["LetThrough", "Uninterrupted", "between", "in_slices", "wait_for"]

P = ParamSpec("P")
T = TypeVar("T")

# What `signal` is made of: its own functions spend 20 µs a write on turning numbers into enums and back.
_signals = import_module("_signal")
_SIGINT = int(signal.SIGINT)
# How long Ctrl-C may wait for somebody who waits.
TURN_S = 0.05


class Uninterrupted:
    """Hold Ctrl-C back while something is under way in the main thread: it happens whole, then the interrupt.

    Parameters
    ----------
    in_slices : bool
        An interrupt that came takes effect at the next call of `between`, and nothing holds back what comes of it.
    """

    __slots__ = ("_handler", "_held", "in_slices")

    def __init__(self, in_slices: bool = False) -> None:
        self.in_slices = in_slices

    def __enter__(self) -> None:
        self._handler: Any = None
        self._held: tuple[int, FrameType | None] | None = None
        if _is_main():
            handler = _signals.getsignal(_SIGINT)
            if callable(handler):
                self._handler = handler
                _signals.signal(_SIGINT, self._hold)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held = (number, frame)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            _signals.signal(_SIGINT, self._handler)
            self.release()

    def release(self) -> Any:
        """Hand on an interrupt that came, and return who is next: the user's handler, or one that holds back."""
        held, self._held = self._held, None
        if held is not None:
            self._handler(*held)
        return self._handler


def between() -> None:
    """Let an interrupt that came take effect, between two slices of work: nothing is half done at this moment.

    Does nothing in other threads, and while something in whose midst this is must happen whole.
    """
    if _is_main():
        handler = _signals.getsignal(_SIGINT)
        while (holder := _holder(handler)) is not None and holder.in_slices:
            handler = holder.release()


class LetThrough:
    """Let interrupts come at any moment of a block in which others are waited for, unless all must happen whole.

    No generator: one that is collected late would put a handler back that is not wanted any more.
    """

    __slots__ = ("_inner",)

    def __enter__(self) -> None:
        self._inner: Any = None
        inner = outer = _signals.getsignal(_SIGINT) if _is_main() else None
        while (holder := _holder(outer)) is not None:
            if not holder.in_slices:
                return
            outer = holder._handler
        if outer is not inner:
            between()
            self._inner = inner
            _signals.signal(_SIGINT, outer)

    def __exit__(self, *_: object) -> None:
        if self._inner is not None:
            try:
                _signals.signal(_SIGINT, self._inner)
            except BaseException:  # of an interrupt that came before it
                _signals.signal(_SIGINT, self._inner)
                raise


def wait_for(event: threading.Event, timeout: float | None = None) -> bool:
    """Wait for an event, as its own `wait` does, which an interrupt may leave locked for ever."""
    if not _is_main():
        return event.wait(timeout)
    end = None if timeout is None else monotonic() + timeout
    with Uninterrupted(in_slices=True):
        while not event.is_set():
            left = TURN_S if end is None else min(TURN_S, end - monotonic())
            if left <= 0:
                return False
            event.wait(left)
            between()
    return True


def in_slices(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function be interrupted only where it, or what it calls, calls `between`."""

    @wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        with Uninterrupted(in_slices=True):
            return function(*args, **kwargs)

    return whole


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _holder(handler: Any) -> Uninterrupted | None:
    holder = getattr(handler, "__self__", None)
    return holder if isinstance(holder, Uninterrupted) else None
