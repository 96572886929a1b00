"""LangChain over KektorDB: similarity, words, filters, diversity and a retriever, without a model to download.

The embeddings are those of langchain-core for tests: the same text has the same vector, and that is all they know. Put
those of your model in their place, and a path in the place of ``:memory:``.

    pip install 'kektordb[langchain]'
    python examples/langchain_retriever.py

Needs: langchain_core
"""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

import kektordb
from kektordb.integrations.langchain import KektorVectorStore

DOCUMENTS = [
    Document(id="red", page_content="Red running shoes", metadata={"price": 40, "tags": ["new", "sale"]}),
    Document(id="blue", page_content="Blue shoes", metadata={"price": 60, "tags": ["new"]}),
    Document(id="lamp", page_content="A lamp for those who run at night", metadata={"price": 15, "tags": []}),
    Document(id="hat", page_content="A red hat", metadata={"price": 25, "tags": ["sale"]}),
]


def show(title: str, documents: list[Document]) -> None:
    print(f"{title:42} {', '.join(document.id or '' for document in documents) or 'nothing'}")


def main() -> None:
    with kektordb.open(":memory:") as db:
        embeddings = DeterministicFakeEmbedding(size=64)
        store = KektorVectorStore(db, "docs", embeddings, text_language="english")
        store.add_documents(DOCUMENTS)

        show("the text itself", store.similarity_search("Blue shoes", k=1))
        show("by words", store.similarity_search("shoe for running", mode="text"))
        show("by words and vector", store.similarity_search("Blue shoes", k=2, mode="hybrid", alpha=0.3))
        show("a filter of LangChain", store.similarity_search("x", filter={"price": {"$lt": 50}, "tags": "sale"}))
        show("a filter of KektorDB", store.similarity_search("x", filter="price < $most", params={"most": 20}))
        show("different ones", store.max_marginal_relevance_search("Blue shoes", k=2, lambda_mult=0.2))
        document, score = store.similarity_search_with_score("A red hat", k=1)[0]
        print(f"{'with its score':42} {document.id} {score:.3f}")

        retriever = store.as_retriever(search_kwargs={"k": 3, "mode": "hybrid", "filter": {"price": {"$gte": 25}}})
        show("a retriever", retriever.invoke("red shoes"))

        store.delete(["hat"])
        print(f"{'left after a delete':42} {len(store.index)} documents")


if __name__ == "__main__":
    main()
