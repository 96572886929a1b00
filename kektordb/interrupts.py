"""How does a write happen whole, whenever Ctrl-C is pressed?"""

from __future__ import annotations

import signal
import threading
from importlib import import_module
from types import FrameType
from typing import Any

__all__ = ["Uninterrupted"]

# What `signal` is made of: its own functions spend 20 µs a write on turning numbers into enums and back.
_signals = import_module("_signal")
_SIGINT = int(signal.SIGINT)


class Uninterrupted:
    """Hold Ctrl-C back while a write is under way in the main thread: it happens whole, then the interrupt."""

    __slots__ = ("_handler", "_held")

    def __enter__(self) -> None:
        self._handler: Any = None
        self._held: tuple[int, FrameType | None] | None = None
        if threading.get_ident() == threading.main_thread().ident:
            handler = _signals.getsignal(_SIGINT)
            if callable(handler):
                self._handler = handler
                _signals.signal(_SIGINT, self._hold)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held = (number, frame)

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            _signals.signal(_SIGINT, self._handler)
            if self._held is not None:
                self._handler(*self._held)
