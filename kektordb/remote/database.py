"""What is a database on a server? The verbs of `Database`, over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kektordb.embedding import check_dim
from kektordb.markup import Stats, indexes_html
from kektordb.remote.index import RemoteIndex
from kektordb.remote.keys import RemoteKeys
from kektordb.remote.tasks import RemoteTask, RemoteTasks
from kektordb.remote.transport import Transport, path_of
from kektordb.settings import check_settings
from kektordb.validation import check_name, index_config, with_texts

if TYPE_CHECKING:
    from kektordb.embed import Embedder
    from kektordb.embed.choosing import Given

__all__ = ["RemoteDatabase", "connect"]

# A snapshot is written whole before it is answered.
SAVE_S = 300.0


def connect(
    url: str,
    *,
    token: str | None = None,
    timeout: float = 30.0,
    retries: int = 2,
    ca_file: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> RemoteDatabase:
    """Use a database that a server has.

    Nothing is sent before the first call that asks for something.

    Parameters
    ----------
    url : str
        Such as ``http://localhost:9091``; without a port 9091 for ``http``, and 443 for ``https``.
    token : str, optional
        What the server asks for, if it does.
    timeout : float
        Seconds that a connection, and each part of an answer, may take. Batches and saves may take 300 in any case.
    retries : int
        How often a read, or a write that can be done twice, is sent again when no answer came or the server was busy.
        Other writes are sent again only when there was no connection.
    ca_file : str or path, optional
        Of ``https``: certificates in PEM that are trusted, of authorities or the server's own, instead of the system's.
    verify : bool
        False trusts whoever answers: he reads the token and all data. For trying things out.

    Returns
    -------
    RemoteDatabase

    Raises
    ------
    ConfigError
    """
    return RemoteDatabase(Transport(url, token, timeout, retries, ca_file=ca_file, verify=verify))


class RemoteDatabase:
    """A database on a server, with the verbs and errors of `Database`. Made by `connect`.

    Calls raise ServerUnreachable, AccessDenied and ServerError beside. All may be made from any number of threads. It
    is a context manager that closes the connections.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._keys = RemoteKeys(transport)
        # By name: those of one connection, which run in this process.
        self._embedders: dict[str, Embedder] = {}

    def close(self) -> None:
        """Close the connections; calls after this raise DatabaseClosed. The server goes on."""
        self._transport.close()

    def __enter__(self) -> RemoteDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- indexes

    def create_index(
        self,
        name: str,
        *,
        metric: str = "cosine",
        dim: int | None = None,
        m: int = 16,
        ef_construction: int = 200,
        seed: int = 0,
        precision: str = "float32",
        traversal: str = "codes",
        text_language: str = "",
        text_fields: Sequence[str] | None = None,
        stop_words: Sequence[str] | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        field_weights: Mapping[str, float] | None = None,
        maintenance: Mapping[str, Any] | None = None,
        embedder: Given | None = None,
    ) -> RemoteIndex:
        """Make an index; see `Database.create_index`. An embedder runs in this process, the server keeps its name."""
        check_name(name)
        made = None
        if embedder is not None:
            from kektordb.embed import as_embedder

            made = as_embedder(embedder)
            check_dim(name, dim, made)
            dim = made.dim if dim is None else dim
        config = index_config(metric, dim, m, ef_construction, seed, precision, traversal)
        config = with_texts(config, text_language, text_fields, stop_words, k1, b, field_weights)
        body: dict[str, Any] = {"index_name": name, "metric": metric, "m": m, "ef_construction": ef_construction}
        body |= {"seed": seed, "precision": precision, "traversal": traversal, "k1": config.k1, "b": config.b}
        if dim is not None:
            body["dim"] = dim
        if text_language:
            body["text_language"] = text_language
            given = {"text_fields": config.text_fields, "stop_words": config.stop_words}
            body |= {key: value for key, value in given.items() if value is not None}
            if config.field_weights is not None:
                body["field_weights"] = config.field_weights
        if maintenance is not None:
            body["maintenance"] = check_settings(maintenance)
        if made is not None:
            body["embedder"] = made.name
        self._transport.post("/vector/actions/create", body)
        self._embedders.pop(name, None)
        index = self._handle(name)
        if made is not None:
            index.attach_embedder(made)
        return index

    def drop_index(self, name: str) -> None:
        """Remove an index with all its items. Raises IndexNotFound."""
        self._transport.request("DELETE", path_of("/vector/indexes", name))
        self._embedders.pop(name, None)

    def index(self, name: str) -> RemoteIndex:
        """Return a handle to an index. Raises IndexNotFound."""
        self._transport.get(path_of("/vector/indexes", check_name(name)))
        return self._handle(name)

    def _handle(self, name: str) -> RemoteIndex:
        return RemoteIndex(self, self._transport, name)

    def __getitem__(self, name: str) -> RemoteIndex:
        return self.index(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the indexes, sorted."""
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [found["name"] for found in self._transport.get("/vector/indexes")]

    # ------------------------------------------------------------------------------------------------------ the rest

    @property
    def kv(self) -> RemoteKeys:
        """The key-value store: a mutable mapping of str to bytes."""
        return self._keys

    @property
    def tasks(self) -> RemoteTasks:
        """The tasks in the background, by id."""
        return RemoteTasks(self._transport)

    def sync(self) -> None:
        """Make everything written so far durable, whatever the policy of the server."""
        self._transport.post("/system/sync", {}, repeatable=True, timeout=SAVE_S)

    def save(self) -> None:
        """Let the server write a snapshot."""
        self._transport.post("/system/save", {}, repeatable=True, timeout=SAVE_S)

    def rewrite_aof(self) -> RemoteTask:
        """Let the server make its log short, in the background."""
        return RemoteTask(self._transport, "rewrite_aof", self._transport.post("/system/aof-rewrite", {}))

    def stats(self) -> dict[str, Any]:
        """Return counts and bytes of the whole database; see `Database.stats`."""
        return Stats(self._transport.get("/system/stats")["database"])

    def promote(self) -> None:
        """Let a server that follows another one take writes from now on. Raises ConfigError when it follows none."""
        self._transport.post("/system/promote", {})

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._transport.closed

    def __repr__(self) -> str:
        return f"<kektordb.RemoteDatabase {self._transport.url!r}{' closed' if self.closed else ''}>"

    def _repr_html_(self) -> str:
        return indexes_html(repr(self), self.stats)
