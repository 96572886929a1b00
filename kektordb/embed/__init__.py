"""What makes vectors of texts? Embedders: models in this process, services over HTTP, or any function.

>>> from kektordb.embed import as_embedder
>>> embedder = as_embedder("hashing:64")
>>> embedder.embed_documents(["a red shoe", "a blue hat"]).shape
(2, 64)
"""

from kektordb.embed.batching import BatchingEmbedder
from kektordb.embed.calling import CallableEmbedder
from kektordb.embed.choosing import as_embedder
from kektordb.embed.contract import Embedder
from kektordb.embed.hashing import HashingEmbedder
from kektordb.embed.retrying import Retrying

__all__ = [
    "BatchingEmbedder",
    "CallableEmbedder",
    "Embedder",
    "HashingEmbedder",
    "Retrying",
    "as_embedder",
]
