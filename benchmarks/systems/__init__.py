"""Which systems are measured side by side, and which of them are here?"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from benchmarks.systems.system import System

__all__ = ["NAMES", "OURS", "PEERS", "available"]

# By name: the module in this package and the class in it.
CLASSES = {
    "kektordb": ("kektordb", "Kektordb"),
    "kektordb-float32": ("kektordb", "KektordbFloat32"),
    "kektordb-float16": ("kektordb", "KektordbFloat16"),
    "kektordb-memory": ("kektordb", "KektordbMemory"),
    "kektordb-graph": ("kektordb", "BareGraph"),
    "hnswlib": ("hnswlib", "Hnswlib"),
    "faiss": ("faiss", "Faiss"),
    "faiss-sq8": ("faiss", "FaissCodes"),
    "usearch": ("usearch", "Usearch"),
    "chromadb": ("chromadb", "Chroma"),
    "qdrant-edge": ("qdrant_edge", "QdrantEdge"),
    "lancedb": ("lancedb", "LanceDB"),
    "sqlite-vec": ("sqlite_vec", "SqliteVec"),
    "zvec": ("zvec", "Zvec"),
}
NAMES = tuple(CLASSES)
OURS = tuple(name for name in NAMES if name.startswith("kektordb"))
PEERS = tuple(name for name in NAMES if name not in OURS)


def available(names: Iterable[str]) -> list[type[System]]:
    """Return the systems of these names that can be imported; a line tells which one cannot, and why."""
    found = []
    for name in names:
        module, class_name = CLASSES[name]
        try:
            found.append(getattr(importlib.import_module(f"benchmarks.systems.{module}"), class_name))
        except Exception as error:  # whatever another project's import raises, the others are measured
            if name in OURS:
                raise
            print(f"left out: {name} ({type(error).__name__}: {error})", flush=True)
    return found
