"""Is `KektorVectorStore` what LangChain expects of a vector store? Its public tests, and what they leave out."""

from __future__ import annotations

import asyncio
import math
import threading
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coroutines import mark_coroutines

pytest.importorskip("langchain_core", reason="needs kektordb[langchain]")
pytest.importorskip("langchain_tests", reason="needs langchain-tests")
pytest.importorskip("pytest_asyncio", reason="needs pytest-asyncio")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import kektordb
from kektordb import F
from kektordb.client import KektorDBClient
from kektordb.integrations.langchain import KektorVectorStore
from kektordb.integrations.opening import AnyDatabase

mark_coroutines(VectorStoreIntegrationTests)


class TestPublicSuite(VectorStoreIntegrationTests):
    """langchain-tests, none overridden."""

    @pytest.fixture
    def vectorstore(self, either_database: AnyDatabase) -> VectorStore:
        return KektorVectorStore(either_database, "docs", self.get_embeddings())


class Angles(Embeddings):
    """A text that begins with a number has the direction of that angle, in degrees, in a plane."""

    def embed_query(self, text: str) -> list[float]:
        angle = math.radians(float(text.split()[0]))
        return [math.cos(angle), math.sin(angle)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


TEXTS = ["0 red running shoes", "5 blue shoes", "10 a red hat", "60 a lamp for runners", "80 Green shoes"]
METADATA: list[dict[str, Any]] = [
    {"price": 40, "tags": ["new", "sale"], "maker": {"country": "it"}},
    {"price": 60, "tags": ["new"]},
    {"price": 15, "color": "Red"},
    {"price": 25, "color": None, "made": "2024-05-01"},
    {"price": 60, "color": "GREEN", "sold": True},
]
IDS = list("abcde")


@pytest.fixture
def store(either_database: AnyDatabase) -> KektorVectorStore:
    store = KektorVectorStore(either_database, "docs", Angles(), text_language="english")
    store.add_texts(TEXTS, METADATA, ids=IDS)
    return store


def ids_of(documents: list[Document]) -> str:
    return "".join(document.id or "?" for document in documents)


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        ({}, "abcde"),
        ({"price": 60}, "be"),
        ({"price": 60, "sold": True}, "e"),
        ({"price": {"$eq": 60}}, "be"),
        ({"price": {"$ne": 60}}, "acd"),
        ({"price": {"$lt": 40}}, "cd"),
        ({"price": {"$lte": 40}}, "acd"),
        ({"price": {"$gt": 40}}, "be"),
        ({"price": {"$gte": 40, "$lt": 60}}, "a"),
        ({"price": {"$in": [15, 25, 99]}}, "cd"),
        ({"price": {"$in": [*range(1000, 2000), 15]}}, "c"),
        ({"price": {"$nin": [15, 25]}}, "abe"),
        ({"price": {"$nin": [*range(1000, 9000), 15]}}, "abde"),
        ({"price": {"$in": []}}, ""),
        ({"price": {"$between": [25, 40]}}, "ad"),
        ({"made": {"$gt": "2024-01-01"}}, "d"),
        ({"color": {"$like": "R%"}}, "c"),
        ({"color": {"$ilike": "g%"}}, "e"),
        ({"color": {"$exists": True}}, "cde"),
        ({"color": {"$exists": False}}, "ab"),
        ({"color": None}, "abd"),
        ({"color": {"$ne": None}}, "ce"),
        ({"tags": "sale"}, "a"),
        ({"maker.country": "it"}, "a"),
        ({"price": {"$not": {"$gt": 40}}}, "acd"),
        ({"$not": {"price": 60, "sold": True}}, "abcd"),
        ({"$or": [{"price": 15}, {"sold": True}]}, "ce"),
        ({"$and": [{"price": 60}, {"$or": [{"tags": "new"}, {"price": 15}]}]}, "b"),
        ("price < 40 AND color = Red", "c"),
        ("price IN (15, 25)", "cd"),
        ((F("price") < 40) & F("color").exists(), "cd"),
    ],
    ids=str,
)
def test_filters_of_every_kind(store: KektorVectorStore, filter: Any, ids: str) -> None:
    assert sorted(ids_of(store.similarity_search("0", k=9, filter=filter))) == sorted(ids)
    assert sorted(ids_of(store.max_marginal_relevance_search("0", k=9, filter=filter))) == sorted(ids)


def test_a_filter_that_is_a_text_takes_parameters(store: KektorVectorStore) -> None:
    found = store.similarity_search("0", k=9, filter="price < $most", params={"most": 20})
    assert ids_of(found) == "c"


@pytest.mark.parametrize(
    "filter",
    [
        {"price": {"$regex": "x"}},
        {"price": {}},
        {"price": {"$in": "abc"}},
        {"price": {"$between": [1]}},
        {"price": {"$exists": 1}},
        {"price": {"$lt": [1]}},
        {"$nor": [{"a": 1}]},
        {"$or": []},
        {"$or": [{}]},
        {"$and": {"a": 1}},
        {"$not": {}},
        {"$not": [{"a": 1}]},
        reduce(lambda inner, _: {"$not": inner}, range(150), {"a": 1}),
        {"a": reduce(lambda inner, _: {"$not": inner}, range(150), {"$eq": 1})},
        {3: 1},
        "price <",
        17,
    ],
    ids=lambda filter: str(filter)[:40],
)
def test_a_filter_that_is_none_is_refused(store: KektorVectorStore, filter: Any) -> None:
    with pytest.raises(kektordb.FilterError):
        store.similarity_search("0", filter=filter)
    with pytest.raises(kektordb.FilterError):
        store.delete(filter=filter)
    assert len(store.index) == 5


def test_scores_are_larger_for_what_is_nearer(store: KektorVectorStore) -> None:
    scored = store.similarity_search_with_score("0", k=5)
    assert ids_of([document for document, _ in scored]) == "abcde"
    scores = [score for _, score in scored]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1.0)
    assert scores[3] == pytest.approx(0.5, abs=1e-3), "the cosine of 60 degrees"


@pytest.mark.parametrize(("metric", "far"), [("cosine", 0.0), ("euclidean", 1 / 3), ("dot", 0.0)])
def test_relevance_lies_between_0_and_1(either_database: AnyDatabase, metric: str, far: float) -> None:
    store = KektorVectorStore(either_database, metric, Angles(), metric=metric)
    store.add_texts(["0 near", "89.99 far"])
    (_, one), (_, other) = store.similarity_search_with_relevance_scores("0")
    assert one == pytest.approx(1.0)
    assert other == pytest.approx(far, abs=1e-2)
    assert len(store.similarity_search_with_relevance_scores("0", score_threshold=0.9)) == 1


def test_words_alone_and_with_the_vector(store: KektorVectorStore) -> None:
    assert sorted(ids_of(store.similarity_search("1 shoe", k=9, mode="text"))) == ["a", "b", "e"]
    assert ids_of(store.similarity_search("79 hat", k=1, mode="hybrid", alpha=0.1)) == "c"
    assert ids_of(store.similarity_search("79 hat", k=1, mode="hybrid", alpha=0.9, fusion="dbsf")) == "e"
    filtered = store.similarity_search("1 shoes", k=9, mode="text", filter={"price": 60})
    assert sorted(ids_of(filtered)) == ["b", "e"]


def test_only_the_text_is_searched_for_words(store: KektorVectorStore) -> None:
    assert store.similarity_search("1 sale", mode="text") == []


def test_an_index_without_a_language_has_no_words(either_database: AnyDatabase) -> None:
    store = KektorVectorStore(either_database, "plain", Angles())
    store.add_texts(TEXTS)
    with pytest.raises(kektordb.KektorError):
        store.similarity_search("0 shoe", mode="hybrid")


def test_marginal_relevance_leaves_out_what_is_alike(store: KektorVectorStore) -> None:
    assert ids_of(store.max_marginal_relevance_search("0", k=3, lambda_mult=1.0)) == "abc"
    assert ids_of(store.max_marginal_relevance_search("0", k=2, lambda_mult=0.0)) == "ae"
    assert ids_of(store.max_marginal_relevance_search("0", k=2, fetch_k=3, lambda_mult=0.0)) == "ac"
    assert ids_of(store.max_marginal_relevance_search_by_vector([1.0, 0.0], k=2, lambda_mult=0.0)) == "ae"
    with pytest.raises(kektordb.ConfigError, match="balance"):
        store.max_marginal_relevance_search("0", lambda_mult=2)


def test_marginal_relevance_is_that_of_langchain(either_database: AnyDatabase) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((30, 6)).astype(np.float32)
    index = either_database.create_index("rows")
    index.add_batch([f"{i}" for i in range(30)], rows)
    store = KektorVectorStore(index)
    query = rng.standard_normal(6)
    near = index.search(query, k=20, include=("vector",))
    for balance in (0.0, 0.4, 1.0):
        chosen = maximal_marginal_relevance(query, [hit.vector for hit in near], balance, 8)  # type: ignore[misc]
        found = store.max_marginal_relevance_search_by_vector(query.tolist(), k=8, fetch_k=20, lambda_mult=balance)
        assert [document.id for document in found] == [near[i].id for i in chosen]


def test_by_vector(store: KektorVectorStore) -> None:
    assert ids_of(store.similarity_search_by_vector([0.0, 1.0], k=2)) == "ed"
    [(document, score)] = store.similarity_search_by_vector_with_score([0.0, 1.0], k=1, filter={"price": 15})
    assert (document.id, score < 0.2) == ("c", True)
    with pytest.raises(kektordb.ConfigError, match="words"):
        store.similarity_search_by_vector([0.0, 1.0], mode="hybrid")


def test_a_retriever_takes_all_of_that(store: KektorVectorStore) -> None:
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": {"price": {"$gt": 20}}, "mode": "hybrid"})
    assert set(ids_of(retriever.invoke("0 shoes"))) <= set("abde")
    diverse = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.0})
    assert ids_of(diverse.invoke("0")) == "ae"
    near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.9})
    assert ids_of(asyncio.run(near.ainvoke("0"))) == "abc"


def test_asynchronous_calls_do_the_same(store: KektorVectorStore) -> None:
    async def ask() -> None:
        assert ids_of(await store.asimilarity_search("0", k=2)) == "ab"
        [(_, score)] = await store.asimilarity_search_with_score("0", k=1)
        assert score == pytest.approx(1.0)
        assert ids_of(await store.amax_marginal_relevance_search("0", k=2, lambda_mult=0.0)) == "ae"
        assert ids_of(await store.asimilarity_search_by_vector([0.0, 1.0], k=1)) == "e"
        assert await store.aadd_texts(["7 new"], ids=["f"]) == ["f"]
        assert ids_of(await store.aget_by_ids(["f", "x", "a"])) == "fa"
        made = await KektorVectorStore.afrom_texts(["0 one"], Angles(), [{"n": 1}], ids=["x"])
        assert ids_of(await made.asimilarity_search("0")) == "x"

    asyncio.run(ask())


def test_what_is_added_is_checked(store: KektorVectorStore) -> None:
    given = {"n": 1}
    [id] = store.add_texts(iter(["1 generated"]), [given])
    assert given == {"n": 1}
    assert store.get_by_ids([id, id])[0].metadata == {"n": 1}
    assert store.add_texts([]) == []
    assert store.add_texts(["1 first", "2 last"], ids=["twice", "twice"]) == ["twice", "twice"]
    assert store.get_by_ids(["twice"])[0].page_content == "2 last"
    before = len(store.index)
    with pytest.raises(ValueError, match="2 metadatas"):
        store.add_texts(["1", "2"], [{}])
    with pytest.raises(ValueError, match="1 ids"):
        store.add_texts(["1"], ids=["a", "b"])
    with pytest.raises(ValueError, match="text_key"):
        store.add_texts(["1"], [{"page_content": "other"}])
    with pytest.raises(kektordb.MetadataError):
        store.add_texts(["1"], [{"when": object()}])
    with pytest.raises(TypeError, match="namespace"):
        store.add_texts(["1"], namespace="x")
    with pytest.raises(TypeError, match="filters"):
        store.similarity_search("0", filters={"price": 1})
    with pytest.raises(kektordb.ConfigError, match="mode"):
        store.similarity_search("0", mode="fuzzy")
    assert len(store.index) == before


def test_delete_by_ids_by_filter_and_all(store: KektorVectorStore) -> None:
    assert store.delete([])
    assert len(store.index) == 5
    with pytest.raises(kektordb.IdError):
        store.delete("abc")
    with pytest.raises(kektordb.IdError):
        store.get_by_ids("abc")
    with pytest.raises(kektordb.ConfigError, match="either"):
        store.delete(["a"], filter={"price": 1})
    with pytest.raises(kektordb.ConfigError, match="empty"):
        store.delete(filter={})
    store.delete(["a", "missing", "a"])
    store.delete(filter={"price": 60})
    assert sorted(store.index.ids()) == ["c", "d"]
    store.delete()
    assert len(store.index) == 0


def test_an_index_that_is_there_is_used_as_it_is(either_database: AnyDatabase) -> None:
    index = either_database.create_index("there", metric="euclidean")
    index.add("foreign", [1.0, 0.0], {"n": 1})
    store = KektorVectorStore(index, embedding_function=Angles(), text_key="text")
    store.add_texts(["90 mine"])
    assert store.similarity_search("0", k=1) == [Document(id="foreign", page_content="", metadata={"n": 1})]
    assert index.count("EXISTS(text)") == 1
    KektorVectorStore(either_database, "there", Angles(), metric="euclidean")
    with pytest.raises(kektordb.ConfigError, match="metric"):
        KektorVectorStore(either_database, "there", Angles(), metric="cosine")
    with pytest.raises(kektordb.ConfigError, match="name"):
        KektorVectorStore(either_database, embedding_function=Angles())
    with pytest.raises(kektordb.ConfigError, match="'there'"):
        KektorVectorStore(index, "other", Angles())
    with pytest.raises(kektordb.ConfigError, match="embedding function"):
        KektorVectorStore(index).similarity_search("0")


def test_stores_of_one_path_share_its_database_and_find_all_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    documents = [Document(text, metadata=metadata) for text, metadata in zip(TEXTS, METADATA, strict=True)]
    store = KektorVectorStore.from_documents(documents, Angles(), database=path, index_name="docs")
    again = KektorVectorStore(str(path), "docs", Angles())
    assert again.index.database is store.index.database
    assert len(again.similarity_search("0", k=9)) == 5
    again.index.database.close()
    with kektordb.open(path, read_only=True) as looking:
        later = KektorVectorStore(path, "docs", Angles())
        assert later.index.database is not looking
        with pytest.raises(kektordb.ReadOnlyDatabase):
            KektorVectorStore(looking, "docs", Angles()).add_texts(["1 one"])
        with pytest.raises(kektordb.ReadOnlyDatabase):
            KektorVectorStore(looking, "new", Angles())
    assert later.similarity_search("0", k=1)[0].page_content == TEXTS[0]
    later.index.database.close()


def test_a_database_may_be_given_as_the_address_or_the_client_of_a_server(served_memory: tuple[Any, str]) -> None:
    served, url = served_memory
    by_url = KektorVectorStore.from_texts(["0 one"], Angles(), database=url)
    assert by_url.index.name == "langchain"
    host, _, port = url.removeprefix("http://").partition(":")
    client = KektorDBClient(host, int(port))
    by_client = KektorVectorStore.from_texts(["5 two"], Angles(), client=client, index_name="langchain")
    assert [found.page_content for found in by_client.similarity_search("0")] == ["0 one", "5 two"]
    client.close()
    by_url.index.database.close()
    served.drop_index("langchain")


def test_threads_add_search_and_delete_at_the_same_time(store: KektorVectorStore) -> None:
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for turn in range(10):
                ids = store.add_texts([f"{turn} of {name}", f"{turn + 1} of {name}"], ids=[f"{name}", f"{name}-{turn}"])
                assert store.similarity_search(f"{turn}", k=3)
                store.delete([ids[1], "shared"])
                store.add_texts(["3 shared"], ids=["shared"])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store.delete(["shared"])
    assert sorted(store.index.ids()) == sorted([*IDS, "0", "1", "2", "3"])
