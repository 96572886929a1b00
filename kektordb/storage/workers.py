"""Which threads unpack, pack and write? Such as have all ended before what they work on is let go."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ..interrupts import Uninterrupted

__all__ = ["Workers"]

P = ParamSpec("P")
T = TypeVar("T")


class Workers(ThreadPoolExecutor):
    """An executor that knows of all its threads, and is left when they have ended, whenever Ctrl-C is pressed.

    The one of the standard library forgets a thread when an interrupt comes while it is being started, and does not
    wait for the others when one comes while it waits. They would go on with memory and files that are gone.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let a thread call a function; an interrupt comes when that is arranged."""
        with Uninterrupted():
            return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the threads; an interrupt comes when they have ended."""
        with Uninterrupted():
            super().shutdown(wait, cancel_futures=cancel_futures)
