"""What do scripts written for the original's client need? `KektorDBClient` with its names, over our own transport.

>>> from kektordb.client import KektorDBClient
>>> client = KektorDBClient(host="localhost", port=9091)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kektordb import errors
from kektordb.remote.imports import send_items
from kektordb.remote.transport import JSON, Transport, path_of

if TYPE_CHECKING:
    from kektordb.integrations.wrapper import KektorVectorStore

__all__ = ["APIError", "ConnectionError", "KektorDBClient", "KektorDBError", "KektorVectorStore", "Task"]

ACTIONS = "/vector/actions/"
GRAPH = "/graph/actions/"
ENDED = ("completed", "failed")
LONG_S = 300.0

Json = dict[str, Any]
Vector = Sequence[float]


class KektorDBError(Exception):
    """Base of what the client raises."""


class APIError(KektorDBError):
    """The server refused, or a task did not complete."""


class ConnectionError(KektorDBError):
    """No answer came."""


class Task:
    """Work in the background of the server.

    Attributes
    ----------
    id, status : str
    progress_message, error : str or None
    """

    def __init__(self, client: KektorDBClient, data: Json) -> None:
        self._client = client
        self.id: str = data.get("id", "")
        self._take(data)

    def _take(self, data: Json) -> None:
        self.status: str = data.get("status", "")
        self.progress_message: str | None = data.get("progress_message")
        self.error: str | None = data.get("error")

    def refresh(self) -> None:
        """Ask for its state."""
        if self.status not in ENDED:
            self._take(self._client.get_task_status(self.id))

    def wait(self, interval: float = 10, timeout: float = 7200) -> Task:
        """Wait until it has ended, looking every `interval` seconds, sooner at first.

        Raises
        ------
        APIError
            It failed.
        TimeoutError
            It has not ended within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        pause_s = min(0.05, interval)
        while self.status not in ENDED:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"the task {self.id} has not ended after {timeout} s")
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, interval)
            self.refresh()
        if self.status == "failed":
            raise APIError(f"the task {self.id} failed: {self.error}")
        return self

    def __repr__(self) -> str:
        return f"<Task {self.id}: {self.status}>"


class _Calls:
    """What all parts of the client send requests with."""

    def __init__(
        self, host: str = "localhost", port: int = 9091, timeout: float = 30, api_key: str | None = None
    ) -> None:
        where = f"[{host}]" if ":" in host and not host.startswith("[") else host
        self.base_url = f"http://{where}:{port}"
        self.timeout = timeout
        self._transport = Transport(self.base_url, api_key or None, timeout)

    def _call(
        self, method: str, path: str, body: Json | None = None, *, again: bool = False, seconds: float = 0
    ) -> Any:
        with errors_of_client():
            return self._transport.request(method, path, body, repeatable=again, kind=JSON, timeout=seconds)

    def _ask(self, path: str, body: Json, seconds: float | None = None) -> Any:
        """Return what a question is answered with; it may be asked twice."""
        return self._call("POST", path, body, again=True, seconds=seconds or 0)


@contextmanager
def errors_of_client() -> Iterator[None]:
    """Let errors of this package be those of the original's client."""
    try:
        yield
    except errors.ServerUnreachable as error:
        raise ConnectionError(str(error)) from error
    except errors.KektorError as error:
        raise APIError(f"KektorDB API Error: {error}") from error


class _Keys(_Calls):
    """Keys."""

    def set(self, key: str, value: str | bytes) -> None:
        """Set a key; bytes are taken as UTF-8."""
        text = value.decode() if isinstance(value, bytes) else value
        self._call("POST", path_of("/kv", key), {"value": text}, again=True)

    def get(self, key: str) -> str:
        """Return the value of a key. Raises APIError when there is none."""
        return str(self._call("GET", path_of("/kv", key), again=True)["value"])

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""
        self._call("DELETE", path_of("/kv", key), again=True)


class _Indexes(_Calls):
    """Indexes and their upkeep."""

    def vcreate(
        self,
        index_name: str,
        metric: str = "euclidean",
        precision: str = "float32",
        m: int = 0,
        ef_construction: int = 0,
        text_language: str = "",
        maintenance_config: Json | None = None,
        auto_links: list[Json] | None = None,
        memory_config: Json | None = None,
    ) -> None:
        """Create an index; numbers of 0 mean the defaults. The last two are not served, and ignored."""
        body: Json = {"index_name": index_name, "metric": metric, "precision": precision}
        given = {"m": m, "ef_construction": ef_construction, "text_language": text_language}
        body |= {key: value for key, value in given.items() if value}
        if maintenance_config:
            body["maintenance"] = maintenance_config
        self._call("POST", ACTIONS + "create", body)

    def list_indexes(self) -> list[Json]:
        """List the indexes."""
        return list(self._call("GET", "/vector/indexes", again=True))

    def get_index_info(self, index_name: str) -> Json:
        """Return what is known of an index."""
        return dict(self._call("GET", path_of("/vector/indexes", index_name), again=True))

    def delete_index(self, index_name: str) -> None:
        """Drop an index."""
        self._call("DELETE", path_of("/vector/indexes", index_name))

    def vcompress(self, index_name: str, precision: str, wait: bool = True) -> Task:
        """Bring an index to another precision."""
        return self._begun(ACTIONS + "compress", {"index_name": index_name, "precision": precision}, wait)

    def vupdate_config(self, index_name: str, config: Json) -> None:
        """Change when an index is vacuumed and refined."""
        self._call("POST", path_of("/vector/indexes", index_name) + "/config", config, again=True)

    def vtrigger_maintenance(self, index_name: str, task_type: str, wait: bool = True) -> Task:
        """Vacuum or refine an index."""
        path = path_of("/vector/indexes", index_name) + "/maintenance"
        return self._begun(path, {"type": task_type}, wait)

    def aof_rewrite(self, wait: bool = True) -> Task:
        """Make the log short."""
        return self._begun("/system/aof-rewrite", {}, wait)

    def save(self) -> None:
        """Write a snapshot."""
        self._call("POST", "/system/save", {}, again=True, seconds=LONG_S)

    def get_task_status(self, task_id: str) -> Json:
        """Return the state of a task."""
        return dict(self._call("GET", path_of("/system/tasks", task_id), again=True))

    def _begun(self, path: str, body: Json, wait: bool) -> Task:
        assert isinstance(self, KektorDBClient)
        task = Task(self, self._call("POST", path, body))
        return task.wait() if wait else task


class _Items(_Calls):
    """Items and searches."""

    def vadd(
        self,
        index_name: str,
        item_id: str,
        vector: Vector | None = None,
        metadata: Json | None = None,
        pinned: bool = False,
    ) -> None:
        """Add an item; `pinned` is ignored."""
        body: Json = {"index_name": index_name, "id": item_id, "vector": [] if vector is None else vector}
        if metadata:
            body["metadata"] = metadata
        self._call("POST", ACTIONS + "add", body)

    def vadd_batch(self, index_name: str, vectors: list[Json], timeout: float | None = None) -> Json:
        """Add items, each a dict of ``id``, ``vector`` and perhaps ``metadata``."""
        with errors_of_client():
            send_items(self._transport, index_name, vectors)
        return {"status": "OK", "vectors_added": len(vectors)}

    def vimport(self, index_name: str, vectors: list[Json], wait: bool = True, batch_size: int = 10_000) -> Task:
        """Add items; they are durable when it returns. `wait` and `batch_size` make no difference."""
        assert isinstance(self, KektorDBClient)
        with errors_of_client():
            send_items(self._transport, index_name, vectors)
        self._call("POST", ACTIONS + "import/commit", {"index_name": index_name}, again=True, seconds=LONG_S)
        return Task(self, {"status": "completed", "progress_message": f"Imported {len(vectors)} vectors"})

    def vdelete(self, index_name: str, item_id: str) -> None:
        """Delete an item, if it is there."""
        self._call("POST", ACTIONS + "delete_vector", {"index_name": index_name, "id": item_id}, again=True)

    def vget(self, index_name: str, item_id: str) -> Json:
        """Return an item: ``id``, ``vector``, ``metadata``."""
        return dict(self._call("GET", path_of("/vector/indexes", index_name, "vectors", item_id), again=True))

    def vget_many(self, index_name: str, item_ids: list[str], compress_context: bool = False) -> list[Json]:
        """Return the items that are there."""
        return list(self._ask(ACTIONS + "get-vectors", {"index_name": index_name, "ids": item_ids}))

    def vsearch(
        self,
        index_name: str,
        query_vector: Vector | None = None,
        k: int = 10,
        filter_str: str = "",
        ef_search: int = 0,
        alpha: float = 0.5,
        *,
        query_text: str = "",
        graph_filter: Json | None = None,
        include_relations: list[str] | None = None,
        hydrate_relations: bool = False,
        timeout: float | None = None,
        compress_context: bool = False,
    ) -> list[Any]:
        """Return the ids of the nearest items, the best first; with `include_relations` dicts."""
        body: Json = {"index_name": index_name, "k": k, "query_vector": [] if query_vector is None else query_vector}
        given: Json = {"filter": filter_str, "ef_search": ef_search, "query_text": query_text}
        given |= {"graph_filter": graph_filter, "include_relations": include_relations}
        given["hydrate_relations"] = hydrate_relations
        body |= {key: value for key, value in given.items() if value}
        if alpha != 0.5:
            body["alpha"] = alpha
        return list(self._ask(ACTIONS + "search", body, timeout)["results"])

    def vsearch_with_scores(
        self, index_name: str, query_vector: Vector, k: int = 10, timeout: float | None = None
    ) -> list[Json]:
        """Return ``id`` and ``score`` of the nearest items."""
        body = {"index_name": index_name, "query_vector": query_vector, "k": k}
        return list(self._ask(ACTIONS + "search-with-scores", body, timeout)["results"])

    def vexport(self, index_name: str, limit: int = 1000, offset: int = 0) -> Json:
        """Return one page of ids and metadata."""
        path = path_of("/vector/indexes", index_name) + f"/export?limit={int(limit)}&offset={int(offset)}"
        return dict(self._call("GET", path, again=True))


class _Graph(_Calls):
    """Links between items. An index need not be named, as in versions before 0.5: call by keyword."""

    def vlink(
        self,
        index_name: str | None = None,
        source_id: str = "",
        target_id: str = "",
        relation_type: str = "",
        inverse_relation: str = "",
        *,
        inverse_relation_type: str = "",
    ) -> None:
        """Make a link, and with an inverse relation the one back."""
        body = _linked(index_name, source_id, relation_type) | {"target_id": target_id}
        inverse = inverse_relation or inverse_relation_type
        if inverse:
            body["inverse_relation_type"] = inverse
        self._call("POST", GRAPH + "link", body, again=True)

    def vunlink(
        self, index_name: str | None = None, source_id: str = "", target_id: str = "", relation_type: str = ""
    ) -> None:
        """Remove a link."""
        body = _linked(index_name, source_id, relation_type) | {"target_id": target_id}
        self._call("POST", GRAPH + "unlink", body, again=True)

    def vget_links(self, index_name: str | None = None, source_id: str = "", relation_type: str = "") -> list[str]:
        """Return where the links of a relation lead."""
        return list(self._ask(GRAPH + "get-links", _linked(index_name, source_id, relation_type))["targets"])

    def vget_connections(self, index_name: str, source_id: str, relation_type: str) -> list[Json]:
        """Return the items that the links of a relation lead to."""
        return list(self._ask(GRAPH + "get-connections", _linked(index_name, source_id, relation_type))["results"])

    def get_incoming(self, index_name: str, target_id: str, relation_type: str) -> list[str]:
        """Return where the links of a relation come from."""
        body = {"index_name": index_name, "target_id": target_id, "relation_type": relation_type}
        return list(self._ask(GRAPH + "get-incoming", body)["sources"])

    def get_all_relations(self, index_name: str, node_id: str) -> dict[str, list[str]]:
        """Return by relation where all links of a node lead."""
        body = {"index_name": index_name, "node_id": node_id}
        return dict(self._ask(GRAPH + "get-all-relations", body)["relations"])

    def get_all_incoming(self, index_name: str, node_id: str) -> dict[str, list[str]]:
        """Return by relation where all links to a node come from."""
        body = {"index_name": index_name, "node_id": node_id}
        return dict(self._ask(GRAPH + "get-all-incoming", body)["relations"])

    def find_path(self, index_name: str, source: str, target: str, relations: list[str] | None = None) -> Json:
        """Return a shortest way between two nodes."""
        body = {"index_name": index_name, "source_id": source, "target_id": target, "relations": relations or []}
        return dict(self._ask(GRAPH + "find-path", body))

    def extract_subgraph(
        self, index_name: str, root_id: str, relations: list[str] | None = None, max_depth: int = 2
    ) -> Json:
        """Return what lies around a node."""
        body = {"index_name": index_name, "root_id": root_id, "relations": relations or [], "max_depth": max_depth}
        return dict(self._ask(GRAPH + "extract-subgraph", body))

    def traverse(self, index_name: str, source_id: str, paths: list[str], compress_context: bool = False) -> Json:
        """Follow ways of relations from a node."""
        return dict(self._ask(GRAPH + "traverse", {"index_name": index_name, "source_id": source_id, "paths": paths}))

    def set_node_properties(self, index_name: str, node_id: str, properties: Json) -> None:
        """Merge properties into the metadata of a node."""
        body = {"index_name": index_name, "node_id": node_id, "properties": properties}
        self._call("POST", GRAPH + "set-node-properties", body, again=True)

    def get_node_properties(self, index_name: str, node_id: str, compress_context: bool = False) -> Json:
        """Return the properties of a node."""
        body = {"index_name": index_name, "node_id": node_id}
        return dict(self._ask(GRAPH + "get-node-properties", body)["properties"])

    def search_nodes(
        self, index_name: str, property_filter: str, limit: int = 10, compress_context: bool = False
    ) -> list[Json]:
        """Return nodes by a filter on their properties."""
        body = {"index_name": index_name, "property_filter": property_filter, "limit": limit}
        return list(self._ask(GRAPH + "search-nodes", body)["nodes"])


class KektorDBClient(_Keys, _Indexes, _Items, _Graph):
    """The client of the original, with its methods, names and errors, for all of its versions that our server serves.

    `connect` has more: errors by their kind, arrays, distances, filters in Python.

    Parameters
    ----------
    host : str
    port : int
    timeout : float
        Seconds that an answer may take.
    api_key : str, optional
        The token that the server asks for.
    """

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def _linked(index_name: str | None, source_id: str, relation_type: str) -> Json:
    body: Json = {"source_id": source_id, "relation_type": relation_type}
    return body if index_name is None else {"index_name": index_name, **body}


def __getattr__(name: str) -> Any:
    # The wrapper for LangChain needs this module.
    if name == "KektorVectorStore":
        from kektordb.integrations.wrapper import KektorVectorStore

        return KektorVectorStore
    raise AttributeError(f"module 'kektordb.client' has no attribute {name!r}")
