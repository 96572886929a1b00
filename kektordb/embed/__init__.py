"""What makes vectors of texts? Embedders: models in this process, services over HTTP, or any function.

>>> from kektordb.embed import as_embedder
>>> embedder = as_embedder("hashing:64")
>>> embedder.embed_documents(["a red shoe", "a blue hat"]).shape
(2, 64)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kektordb.embed.batching import BatchingEmbedder
from kektordb.embed.caching import CachedEmbedder
from kektordb.embed.calling import CallableEmbedder
from kektordb.embed.choosing import as_embedder
from kektordb.embed.contract import Embedder
from kektordb.embed.hashing import HashingEmbedder
from kektordb.embed.retrying import Retrying

if TYPE_CHECKING:
    from kektordb.embed.file_cache import FileCache
    from kektordb.embed.local import FastEmbedEmbedder, Model2VecEmbedder, SentenceTransformersEmbedder
    from kektordb.embed.services import OllamaEmbedder, OpenAIEmbedder

__all__ = [
    "BatchingEmbedder",
    "CachedEmbedder",
    "CallableEmbedder",
    "Embedder",
    "FastEmbedEmbedder",
    "FileCache",
    "HashingEmbedder",
    "Model2VecEmbedder",
    "OllamaEmbedder",
    "OpenAIEmbedder",
    "Retrying",
    "SentenceTransformersEmbedder",
    "as_embedder",
]

# HTTP and the libraries of models are loaded when they are asked for.
_LAZY = {
    "FastEmbedEmbedder": "kektordb.embed.local",
    "FileCache": "kektordb.embed.file_cache",
    "Model2VecEmbedder": "kektordb.embed.local",
    "OllamaEmbedder": "kektordb.embed.services",
    "OpenAIEmbedder": "kektordb.embed.services",
    "SentenceTransformersEmbedder": "kektordb.embed.local",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'kektordb.embed' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value
