"""Which limits does the server keep, and what may its owner choose? All numbers in one place."""

from __future__ import annotations

import msgspec

__all__ = ["LOOPBACK", "MAX_LISTED", "MAX_PROFILE_S", "Limits", "Options"]

# Names under which a browser or client on this machine reaches it.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Keys of one answer; seconds of one profile.
MAX_LISTED = 10_000
MAX_PROFILE_S = 60


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may ask of the server. The first group answers 4xx, the second closes or answers 503.

    Attributes
    ----------
    max_body_bytes : int
        Of a request, counted while it is read.
    max_head_bytes : int
        Of the request line and all headers of a request.
    max_depth : int
        Of nested JSON and msgpack.
    max_k, max_batch, max_dim : int
        Results of a search, items of a request, components of a vector.
    max_keys : int
        Keys of one item's metadata: each becomes a column of the index.
    max_connections : int
        Open at a time; one more is answered with 503.
    max_waiting : int
        Requests that wait for a thread or run in one; one more is answered with 503.
    n_threads : int
        That writes and long reads run in.
    header_s, body_s, request_s, keep_alive_s : float
        Seconds for the headers of a request to come, for its body to come, for its answer, and until the next one.
    write_s : float
        Seconds for an answer to be taken, beside one more for each 16 KiB of it.
    inline_us : float
        A search that is estimated to take less runs without a thread.
    inline_body_bytes : int
        A body up to this size is decoded without a thread.
    grace_s : float
        A task that ends within it is answered as ended.
    max_edges : int
        Edges and nodes that one walk through the graph looks at.
    max_held, max_snapshots : int
        Followers that wait for a record, and that are given a snapshot, at a time. One more has its answer at once, and
        503 in the place of a snapshot.
    max_wait_s : float
        That a follower may wait for a record.
    stall_s : float
        A follower that takes nothing of a snapshot for so long is given up.
    """

    max_body_bytes: int = 32 << 20
    max_head_bytes: int = 32 << 10
    max_depth: int = 64
    max_k: int = 10_000
    max_batch: int = 50_000
    max_dim: int = 65_536
    max_keys: int = 4096
    max_connections: int = 1024
    max_waiting: int = 256
    n_threads: int = 8
    header_s: float = 10.0
    body_s: float = 60.0
    request_s: float = 300.0
    keep_alive_s: float = 75.0
    write_s: float = 60.0
    inline_us: float = 1000.0
    inline_body_bytes: int = 64 << 10
    grace_s: float = 1.0
    max_edges: int = 100_000
    max_held: int = 64
    max_snapshots: int = 4
    max_wait_s: float = 30.0
    stall_s: float = 60.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the application behaves.

    Attributes
    ----------
    token : str or None
        Every request but ``/healthz`` and ``/docs`` must bear it; None asks for none.
    read_only_token : str or None
        May be borne instead by requests that change nothing.
    allowed_hosts : tuple of str or None
        Names in the Host header that are answered, without port; None for all. Others mean that a browser was led here
        by a name of somebody else.
    allowed_origins : tuple of str
        Origins of web pages, such as ``https://db.example``, whose requests are answered beside those of the server's
        own: they come through a proxy, since no answer lets a browser hand it to a page of another origin.
    profiling : bool
        Whether ``/debug/profile`` is there.
    limits : Limits
    """

    token: str | None = None
    read_only_token: str | None = None
    allowed_hosts: tuple[str, ...] | None = LOOPBACK
    allowed_origins: tuple[str, ...] = ()
    profiling: bool = False
    limits: Limits = Limits()
