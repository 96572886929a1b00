"""How are items written for a distributed engine? Requests for Qdrant, a file for PostgreSQL with pgvector."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from kektordb.data.outgoing import Exported, Rows
from kektordb.errors import ConfigError

__all__ = ["decimals", "pgvector", "qdrant"]

Write = Callable[[Rows], None]

# Points of one request; Qdrant takes 32 MiB unless it is told otherwise.
MAX_POINTS = 1000
MAX_REQUEST = 8 << 20
# Ids of Qdrant are numbers or UUIDs: other ids stand in the payload, under this key.
ID_KEY = "kektordb_id"
DISTANCES = {"cosine": "Cosine", "euclidean": "Euclid", "dot": "Dot"}
OPERATORS = {"cosine": "vector_cosine_ops", "euclidean": "vector_l2_ops", "dot": "vector_ip_ops"}
# What an index of pgvector takes, as vectors and as halves.
MAX_INDEXED, MAX_HALVES = 2000, 4000
# A zero as JSON writes it, which no PostgreSQL text may have in it; not the same letters after a backslash.
_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def decimals(vector: npt.NDArray[np.float32]) -> list[float]:
    """Return the shortest decimals that are these float32."""
    return [float(str(number)) for number in vector]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _dim_of(index: Exported) -> int:
    if index.dim is None:
        raise ConfigError(f"expected an index whose vectors have a dimension, got {index.name!r}, which is empty")
    return index.dim


# -------------------------------------------------------------------------------------------------------------- Qdrant


@contextmanager
def qdrant(path: str, index: Exported) -> Iterator[Write]:
    """Write one request of points in each line, and that which makes the collection in ``.collection.json``."""
    config = {"vectors": {"size": _dim_of(index), "distance": DISTANCES[index.config.metric]}}
    with open(path + ".collection.json", "x", encoding="utf-8") as file:
        file.write(_json(config) + "\n")
    with open(path, "x", encoding="utf-8") as file:

        def write(rows: Rows) -> None:
            waiting: list[str] = []
            size = 0
            for id, vector, metadata in zip(*rows, strict=True):
                point = _json({"id": point_id(id), "vector": decimals(vector), "payload": _payload(id, metadata)})
                if waiting and (len(waiting) == MAX_POINTS or size + len(point) > MAX_REQUEST):
                    file.write('{"points":[' + ",".join(waiting) + "]}\n")
                    waiting, size = [], 0
                waiting.append(point)
                size += len(point)
            file.write('{"points":[' + ",".join(waiting) + "]}\n")

        yield write


def point_id(id: str) -> str:
    """Return the UUID of a point: the id itself if it is one as they are written, else one that is made of it."""
    try:
        if str(uuid.UUID(id)) == id:
            return id
    except ValueError:
        pass
    return str(uuid.uuid5(uuid.NAMESPACE_OID, id))


def _payload(id: str, metadata: dict[str, Any]) -> dict[str, Any]:
    if ID_KEY in metadata:
        raise ConfigError(f"metadata of id {id!r}: {ID_KEY} is where the id goes")
    return {ID_KEY: id, **metadata}


# ------------------------------------------------------------------------------------------------------------ pgvector


@contextmanager
def pgvector(path: str, index: Exported) -> Iterator[Write]:
    """Write lines as COPY reads them, and in ``.sql`` what makes the table, fills it and gives it an index."""
    with open(path + ".sql", "x", encoding="utf-8") as file:
        file.write(_script(path, index))
    with open(path, "x", encoding="utf-8", newline="\n") as file:

        def write(rows: Rows) -> None:
            for id, vector, metadata in zip(*rows, strict=True):
                text = _json(metadata)
                if "\0" in id or _ZERO.search(text):
                    raise ConfigError(f"item of id {id!r}: PostgreSQL takes no text with a zero in it")
                numbers = ",".join(str(number) for number in vector)
                file.write(f"{_escaped(id)}\t[{numbers}]\t{_escaped(text)}\n")

        yield write


def _escaped(text: str) -> str:
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escaped)
    return text


def _script(path: str, index: Exported) -> str:
    table = '"' + index.name.replace('"', '""').replace("\0", "") + '"'
    file = path.replace("'", "''")
    dim, operators = _dim_of(index), OPERATORS[index.config.metric]
    lines = [
        "CREATE EXTENSION IF NOT EXISTS vector;",
        f"CREATE TABLE {table} (id text PRIMARY KEY, vector vector({dim}) NOT NULL, metadata jsonb NOT NULL);",
        f"\\copy {table} (id, vector, metadata) FROM '{file}' WITH (FORMAT text, ENCODING 'UTF8')",
    ]
    if dim <= MAX_INDEXED:
        lines.append(f"CREATE INDEX ON {table} USING hnsw (vector {operators});")
    elif dim <= MAX_HALVES:
        halves = operators.replace("vector", "halfvec")
        lines.append(f"CREATE INDEX ON {table} USING hnsw ((vector::halfvec({dim})) {halves});")
    return "\n".join(lines) + "\n"
