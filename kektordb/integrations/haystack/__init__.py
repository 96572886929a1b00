"""How does Haystack keep its documents in an index? A document store, and a retriever for each way to search.

>>> from kektordb.integrations.haystack import KektorBM25Retriever, KektorDocumentStore
>>> store = KektorDocumentStore("data", embedding_dim=384)
>>> store.write_documents([Document(content="Red running shoes", meta={"price": 40})])
>>> KektorBM25Retriever(store).run("shoes", filters={"field": "meta.price", "operator": "<", "value": 50})
"""

from kektordb.integrations.haystack.retrievers import (
    KektorBM25Retriever,
    KektorEmbeddingRetriever,
    KektorHybridRetriever,
)
from kektordb.integrations.haystack.store import KektorDocumentStore

__all__ = ["KektorBM25Retriever", "KektorDocumentStore", "KektorEmbeddingRetriever", "KektorHybridRetriever"]
