"""Where does the process spend its time? A sampling profile of all threads, as folded stacks."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import FrameType

__all__ = ["profile"]

INTERVAL_S = 0.005


def profile(seconds: float) -> bytes:
    """Look at the stacks of all threads but this one, 200 times a second.

    Returns
    -------
    bytes
        One line a stack, ``outermost;…;innermost count``, the most frequent first; flame graph tools read it.
    """
    own, counts = threading.get_ident(), Counter[str]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for thread, frame in sys._current_frames().items():
            if thread != own:
                counts[_stack(frame)] += 1
        time.sleep(INTERVAL_S)
    return "".join(f"{stack} {n}\n" for stack, n in counts.most_common()).encode()


def _stack(frame: FrameType | None) -> str:
    names = []
    while frame is not None:
        names.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_name}")
        frame = frame.f_back
    return ";".join(reversed(names))
