"""Where does a follower have its records from? A directory, a server, or an object that knows."""

from __future__ import annotations

import contextlib
import os
from typing import cast

from kektordb.errors import ConfigError
from kektordb.replicas.following import Following, Source
from kektordb.storage import Feed
from kektordb.storage.backend import OsBackend
from kektordb.storage.directory import Directory, naming_errors
from kektordb.validation import check_path

__all__ = ["follower_of"]


def follower_of(follow: object, interval_s: float, path: str, read_only: bool, token: str | None = None) -> Following:
    """Return the following side of a database at `path` that is about to be opened.

    Raises ConfigError, and for a new follower what keeps its leader from being reached.
    """
    if read_only or path == ":memory:":
        raise ConfigError("expected a directory that can be written to with follow=, got read_only=True or ':memory:'")
    if isinstance(interval_s, bool) or not isinstance(interval_s, int | float) or not 0 <= interval_s <= 86400:
        raise ConfigError(f"expected follow_interval in seconds, 0 to 86,400, got {interval_s!r:.80}")
    if isinstance(follow, str) and follow.startswith(("http://", "https://")):
        from kektordb.replicas.http_source import HttpSource  # needed by few

        far = HttpSource(follow, token)
        if not os.path.lexists(path):
            with far:
                far.probe()
        return Following(far, interval_s, far.close, interrupt=far.interrupt)
    if token is not None:
        raise ConfigError("expected follow_token= beside the address of a server in follow= only")
    if hasattr(follow, "read") and hasattr(follow, "snapshot"):
        if hasattr(follow, "probe") and not os.path.lexists(path):
            follow.probe()
        if hasattr(follow, "interrupt") and hasattr(follow, "close"):  # as `HttpSource` has; it can be used again
            return Following(cast("Source", follow), interval_s, follow.close, interrupt=follow.interrupt)
        return Following(cast("Source", follow), interval_s)
    leader = check_path(cast("str", follow))
    if leader == ":memory:":
        raise ConfigError("expected the directory of a database to follow, got ':memory:'")
    if _is_same(leader, path):
        raise ConfigError(f"expected another database to follow, got {leader!r} itself")
    if not os.path.lexists(path):  # no directory is made for a leader that is not there
        with naming_errors(f"cannot follow {leader}"):
            Directory(os.path.abspath(leader), OsBackend(), read_only=True).require_manifest()
    feed = Feed(leader)
    return Following(feed, interval_s, feed.close)


def _is_same(one: str, other: str) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with contextlib.suppress(OSError):  # one of them is not there
        return os.path.samefile(one, other)  # some file systems do not care for upper and lower case
    return False
