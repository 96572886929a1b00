"""Does the wrapper of the original's client do what scripts expect of it, and what it did wrong rightly?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from live import live

import kektordb
from kektordb.client import APIError, KektorDBClient, KektorVectorStore


class Letters:
    """Counts of letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0 + text.count(letter) for letter in "aeiou"] for text in texts]

    def embed_query(self, text: str) -> Sequence[float]:
        return self.embed_documents([text])[0]


@pytest.fixture
def client() -> Iterator[KektorDBClient]:
    with kektordb.open(":memory:") as db, live(db) as url:
        client = KektorDBClient("127.0.0.1", int(url.rpartition(":")[2]))
        client.vcreate("docs", metric="cosine")
        yield client
        client.close()


def test_texts_come_back_as_dicts_the_best_first(client: KektorDBClient) -> None:
    metadata = [{"kind": "x"}, {"kind": "y"}, {"kind": "y"}]
    texts = ["banana", "kiwi", "kiwi oooo"]
    store = KektorVectorStore.from_texts(texts, Letters(), client, "docs", metadatas=metadata)
    assert metadata == [{"kind": "x"}, {"kind": "y"}, {"kind": "y"}], "what was handed in stays"

    found = store.similarity_search("kiwi", k=3)

    assert [one["page_content"] for one in found] == ["kiwi", "kiwi oooo", "banana"]
    assert found[0]["metadata"] == {"kind": "y"}
    assert found[0]["id"].startswith("docs_")
    assert [one["page_content"] for one in store.similarity_search("kiwi", filter="kind='x'")] == ["banana"]
    assert client.vget("docs", found[0]["id"])["metadata"] == {"kind": "y", "page_content": "kiwi"}


def test_generators_ids_and_texts_that_come_again(client: KektorDBClient) -> None:
    store = KektorVectorStore(client=client, index_name="docs", embedding_function=Letters())
    first = store.add_texts(text for text in ["one", "two", "one"])
    assert first[0] == first[2]
    assert store.add_texts(["two"]) == [first[1]], "an id is made of the text alone"
    assert store.add_texts(["three"], ids=["3"]) == ["3"]
    assert len(store.similarity_search("o", k=9)) == 3
    with pytest.raises(ValueError, match="2 ids"):
        store.add_texts(["a", "b"], ids=["a"])


def test_errors_are_those_of_the_client(client: KektorDBClient) -> None:
    missing = KektorVectorStore(client, "missing", Letters())
    with pytest.raises(APIError):
        missing.add_texts(["one"])
    with pytest.raises(APIError):
        missing.similarity_search("one")
    with pytest.raises(APIError):
        KektorVectorStore(client, "docs", Letters()).similarity_search("one", filter="kind =")


def test_it_needs_no_langchain(client: KektorDBClient) -> None:
    import sys

    from kektordb.integrations import wrapper

    assert KektorVectorStore is wrapper.KektorVectorStore
    assert "langchain_core" not in vars(sys.modules["kektordb.integrations.wrapper"])
