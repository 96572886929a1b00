"""Who tells that something in a folder has changed? The operating system, where `watchfiles` is installed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["FolderWatcher", "can_watch"]

_log = logging.getLogger("kektordb")

# After watching failed: the folder was away, or there are more folders than the system can watch.
RETRY_S = 30.0
STOP_S = 5.0


def can_watch() -> bool:
    """Tell whether `watchfiles` is installed."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        return False
    return True


class FolderWatcher:
    """Tells of changes in a folder. On a network disk others' changes are not told: there the schedule finds them.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._works = False
        self._thread: threading.Thread | None = None

    @property
    def works(self) -> bool:
        """See `Watcher`."""
        return self._works

    def start(self, notify: Callable[[], None]) -> None:
        """See `Watcher`."""
        self._thread = threading.Thread(target=self._run, args=(notify,), name="kektordb-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """See `Watcher`."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def _run(self, notify: Callable[[], None]) -> None:
        is_first = True
        while not self._stop.is_set():
            try:
                self._watch(notify)
            except Exception as error:  # the outermost loop of a thread; what it cannot watch the schedule finds
                level = logging.WARNING if is_first else logging.DEBUG
                _log.log(level, "%s is not watched, but looked at from time to time: %s", self._path, error)
            self._works, is_first = False, False
            notify()
            self._stop.wait(RETRY_S)

    def _watch(self, notify: Callable[[], None]) -> None:
        from watchfiles import watch

        root = os.path.realpath(self._path)
        # It yields nothing after each second, so that a folder that was replaced is noticed.
        identity = _identity(root)
        changes = watch(
            root, watch_filter=None, stop_event=self._stop, rust_timeout=1000, yield_on_timeout=True,
            raise_interrupt=False, debounce=200, step=50,
        )  # fmt: skip
        for found in changes:
            if not self._works:
                self._works = True
                notify()  # of what changed before it began to watch
            if found:
                notify()
            if _identity(root) != identity:
                return


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
