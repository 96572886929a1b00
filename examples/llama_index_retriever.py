"""LlamaIndex over KektorDB: an index of documents, and retrievers by vector, by words, by both, with filters.

The embeddings are made of the letters of a text, so that nothing has to be downloaded. Put those of your model in their
place, and a path in the place of ``:memory:``.

    pip install 'kektordb[llama-index]'
    python examples/llama_index_retriever.py

Needs: llama_index
"""

from __future__ import annotations

from typing import Any

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

import kektordb
from kektordb.integrations.llama_index import KektorVectorStore

DOCUMENTS = [
    Document(doc_id="red", text="Red running shoes", metadata={"price": 40, "tags": ["new", "sale"]}),
    Document(doc_id="blue", text="Blue shoes", metadata={"price": 60, "tags": ["new"]}),
    Document(doc_id="lamp", text="A lamp for those who run at night", metadata={"price": 15, "tags": []}),
    Document(doc_id="hat", text="A red hat", metadata={"price": 25, "tags": ["sale"]}),
]


class Letters(BaseEmbedding):
    """How often each letter stands in a text."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [1.0 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def show(title: str, found: list[NodeWithScore]) -> None:
    shown = ", ".join(f"{one.node.ref_doc_id} {one.score:.3f}" for one in found)
    print(f"{title:24} {shown or 'nothing'}")


def main() -> None:
    with kektordb.open(":memory:") as db:
        store = KektorVectorStore(db, "docs", text_language="english")
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex.from_documents(DOCUMENTS, storage_context=context, embed_model=Letters())

        def ask(title: str, query: str, **options: Any) -> None:
            show(title, index.as_retriever(similarity_top_k=2, **options).retrieve(query))

        cheap = MetadataFilter(key="price", operator=FilterOperator.LT, value=50)
        on_sale = MetadataFilter(key="tags", operator=FilterOperator.CONTAINS, value="sale")
        ask("by vector", "blue shoes")
        ask("by words", "shoe for running", vector_store_query_mode="text_search")
        ask("by both", "red shoes", vector_store_query_mode="hybrid", alpha=0.3)
        ask("different ones", "blue shoes", vector_store_query_mode="mmr")
        ask("filters of LlamaIndex", "hat", filters=MetadataFilters(filters=[cheap, on_sale]))
        ask("a filter of KektorDB", "hat", vector_store_kwargs={"filter": "price BETWEEN 20 AND 50"})

        index.delete_ref_doc("red")
        print(f"{'left after a delete':24} {len(store.client)} nodes")


if __name__ == "__main__":
    main()
