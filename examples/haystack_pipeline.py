"""Haystack over KektorDB: a pipeline that writes, and one that asks by embedding, by words and by both.

The embeddings are counts of letters, so that nothing has to be downloaded: put an embedder of Haystack in their place.

    pip install 'kektordb[haystack]'
    python examples/haystack_pipeline.py

Needs: haystack
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

from kektordb.integrations.haystack import (
    KektorBM25Retriever,
    KektorDocumentStore,
    KektorEmbeddingRetriever,
    KektorHybridRetriever,
)

TEXTS = {"Red running shoes": 40, "Blue shoes": 60, "A lamp for those who run at night": 15, "A red hat": 25}


def letters(text: str) -> list[float]:
    return [1.0 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]


def main() -> None:
    documents = [
        Document(content=text, meta={"price": price}, embedding=letters(text)) for text, price in TEXTS.items()
    ]
    cheap = {"field": "meta.price", "operator": "<", "value": 50}
    with tempfile.TemporaryDirectory() as folder:
        store = KektorDocumentStore(str(Path(folder) / "data"), embedding_dim=26)
        writing = Pipeline()
        writing.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
        print(writing.run({"writer": {"documents": documents}}))

        asking = Pipeline()
        asking.add_component("near", KektorEmbeddingRetriever(store, top_k=2))
        asking.add_component("words", KektorBM25Retriever(store, filters=cheap, top_k=2))
        asking.add_component("both", KektorHybridRetriever(store, alpha=0.3, top_k=2))

        # As it would come from a file. What may be loaded is named: a pipeline can name any class.
        loaded = Pipeline.loads(asking.dumps(), allowed_modules=["kektordb.integrations.haystack"])
        query = "red shoes"
        found = loaded.run(
            {
                "near": {"query_embedding": letters(query)},
                "words": {"query": query},
                "both": {"query": query, "query_embedding": letters(query)},
            }
        )
        for name, answer in found.items():
            print(f"{name:6}", ", ".join(f"{one.content} {one.score:.3f}" for one in answer["documents"]))

        print("price below 50:", store.count_documents_by_filter(cheap), "of", store.count_documents())
        store.index.database.close()


if __name__ == "__main__":
    main()
