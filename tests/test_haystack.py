"""Is `KektorDocumentStore` what Haystack expects of a document store? Its public tests, and what they leave out."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from datetime import date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from coroutines import mark_coroutines

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # else it sends what is used to its makers
pytest.importorskip("haystack", reason="needs kektordb[haystack]")
pytest.importorskip("pytest_asyncio", reason="needs pytest-asyncio")

from haystack import Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

import kektordb
from kektordb import F
from kektordb.integrations.haystack import (
    KektorBM25Retriever,
    KektorDocumentStore,
    KektorEmbeddingRetriever,
    KektorHybridRetriever,
)
from kektordb.integrations.opening import AnyDatabase


class TestPublicSuites(
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
    async_suites.CountDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
):
    """All of haystack.testing; the two tests that each store must define are the only ones defined here."""

    @pytest.fixture
    def document_store(self, either_database: AnyDatabase) -> KektorDocumentStore:
        return KektorDocumentStore(either_database, exact_embeddings=True)

    def test_write_documents(self, document_store: KektorDocumentStore) -> None:
        documents = [Document(id="1", content="one"), Document(id="2", content="two")]
        assert document_store.write_documents(documents) == 2
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([Document(id="3", content="three"), documents[0]])
        assert document_store.filter_documents() == documents

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: KektorDocumentStore) -> None:
        documents = [Document(id="1", content="one")]
        assert await document_store.write_documents_async(documents, DuplicatePolicy.NONE) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)
        assert await document_store.filter_documents_async() == documents


mark_coroutines(TestPublicSuites)


def test_embeddings_come_back_as_they_are_searched_unless_they_shall_be_exact(either_database: AnyDatabase) -> None:
    given = [0.3, -0.4]
    for metric, kept in [("cosine", [0.6, -0.8]), ("dot", given), ("euclidean", given)]:
        store = KektorDocumentStore(either_database, metric, embedding_dim=2, metric=metric)
        store.write_documents([Document(id="a", embedding=given)])
        assert store.filter_documents()[0].embedding == pytest.approx(kept, rel=1e-6)


def documents() -> list[Document]:
    return [
        Document(id="a", content="Red running shoes", meta={"price": 40, "tags": ["new"]}, embedding=[1.0, 0.0]),
        Document(id="b", content="Blue shoes", meta={"price": 60, "made": "2024-05-01"}, embedding=[0.9, 0.4]),
        Document(id="c", content="A lamp for runners", meta={"price": 15, "deep": {"n": 1}}, embedding=[0.0, 1.0]),
        Document(id="d", content="Shoes without a picture", meta={"price": 5}),
    ]


@pytest.fixture
def store(either_database: AnyDatabase) -> KektorDocumentStore:
    store = KektorDocumentStore(either_database, "docs", embedding_dim=2)
    store.write_documents(documents())
    return store


def ids_of(found: list[Document]) -> str:
    return "".join(document.id for document in found)


def test_documents_without_an_embedding_are_found_by_words_and_filters_alone(store: KektorDocumentStore) -> None:
    found = KektorEmbeddingRetriever(store, return_embedding=True).run([1.0, 0.0])["documents"]
    assert ids_of(found) == "abc"
    assert found[0].score == pytest.approx(1.0)
    assert found[0].embedding == [1.0, 0.0]
    words = KektorBM25Retriever(store).run("shoe")["documents"]
    assert sorted(ids_of(words)) == ["a", "b", "d"]
    assert all(document.score and document.embedding is None for document in words)
    assert store.filter_documents({"field": "id", "operator": "==", "value": "d"})[0].embedding is None


def test_retrievers_take_filters_and_numbers_of_a_run(store: KektorDocumentStore) -> None:
    cheap: dict[str, Any] = {"field": "meta.price", "operator": "<", "value": 50}
    new: dict[str, Any] = {"field": "meta.tags", "operator": "==", "value": "new"}
    retriever = KektorEmbeddingRetriever(store, filters=cheap, top_k=2)
    assert ids_of(retriever.run([1.0, 0.0])["documents"]) == "ac"
    assert ids_of(retriever.run([1.0, 0.0], top_k=1)["documents"]) == "a"
    assert retriever.run([1.0, 0.0], top_k=0)["documents"] == []
    dear = {"field": "meta.price", "operator": ">", "value": 50}
    assert ids_of(retriever.run([1.0, 0.0], filters=dear)["documents"]) == "b"
    merging = KektorBM25Retriever(store, filters=cheap, filter_policy=FilterPolicy.MERGE)
    assert ids_of(merging.run("shoes", filters=new)["documents"]) == "a"
    with pytest.raises(ValueError, match="top_k"):
        KektorBM25Retriever(store, top_k=0)
    with pytest.raises(ValueError, match="KektorDocumentStore"):
        KektorBM25Retriever("store")  # type: ignore[arg-type]


def test_a_hybrid_retriever_weighs_words_and_embedding(store: KektorDocumentStore) -> None:
    def best(alpha: float, fusion: str = "minmax") -> str:
        retriever = KektorHybridRetriever(store, top_k=1, alpha=alpha, fusion=fusion)
        return ids_of(retriever.run("lamp", [1.0, 0.0])["documents"])

    assert best(0.1) == "c"
    assert best(0.9) == "a"
    assert best(0.1, "rrf") == "c"
    filtered = KektorHybridRetriever(store).run("lamp", [1.0, 0.0], {"field": "price", "operator": ">", "value": 50})
    assert ids_of(filtered["documents"]) == "b"


def test_retrievers_run_in_asyncio(store: KektorDocumentStore) -> None:
    async def ask() -> None:
        assert ids_of((await KektorEmbeddingRetriever(store).run_async([1.0, 0.0], top_k=1))["documents"]) == "a"
        assert ids_of((await KektorBM25Retriever(store).run_async("lamp"))["documents"]) == "c"
        found = await KektorHybridRetriever(store, alpha=0.1).run_async("lamp", [1.0, 0.0], top_k=1)
        assert ids_of(found["documents"]) == "c"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ("meta.price < 50 AND content ILIKE '%SHOES%'", "ad"),
        (F("meta.price") > 50, "b"),
        ({"field": "meta.deep.n", "operator": "==", "value": 1}, "c"),
        ({"field": "meta.made", "operator": "<=", "value": date(2024, 5, 1)}, "b"),
        ({"field": "meta.made", "operator": ">", "value": datetime(2024, 5, 1)}, ""),
        ({"field": "meta.price", "operator": "in", "value": [*range(1000, 4000), 5]}, "d"),
        ({"field": "meta.price", "operator": "not in", "value": [40, None]}, "bcd"),
        ({"field": "content", "operator": "==", "value": "Blue shoes"}, "b"),
        ({"field": "id", "operator": "in", "value": ["a", "x"]}, "a"),
        ({"operator": "AND", "conditions": []}, "abcd"),
        ({"operator": "OR", "conditions": []}, ""),
    ],
    ids=str,
)
def test_filters_beyond_the_suite(store: KektorDocumentStore, filters: Any, ids: str) -> None:
    assert ids_of(store.filter_documents(filters)) == ids
    assert store.count_documents_by_filter(filters) == len(ids)
    assert sorted(ids_of(store.embedding_retrieval([1.0, 0.0], filters))) == sorted(ids.replace("d", ""))


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.price", "operator": "~", "value": 1},
        {"field": "meta.price", "operator": ["=="], "value": 1},
        {"field": "meta.price", "operator": "==", "value": [1]},
        {"field": "meta.price", "operator": ">", "value": "20240501"},
        {"field": "meta.price", "operator": ">", "value": True},
        {"field": "embedding", "operator": "==", "value": 1},
        {"field": 3, "operator": "==", "value": 1},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": {"a": 1}},
        {"operator": "AND", "conditions": ["a"]},
        reduce(lambda inner, _: {"operator": "NOT", "conditions": [inner]}, range(150), {"field": "a"}),
        "meta.price <",
    ],
    ids=lambda filters: str(filters)[:40],
)
def test_what_is_no_filter_is_an_error_of_haystack(store: KektorDocumentStore, filters: Any) -> None:
    for call in (store.filter_documents, store.count_documents_by_filter, store.delete_by_filter):
        with pytest.raises(FilterError):
            call(filters)
    with pytest.raises(FilterError):
        store.embedding_retrieval([1.0, 0.0], filters)
    with pytest.raises(FilterError):
        store.delete_by_filter({})
    assert store.count_documents() == 4


def test_every_part_of_a_document_comes_back(either_database: AnyDatabase) -> None:
    store = KektorDocumentStore(either_database, "all", embedding_dim=2, exact_embeddings=True, metric="dot")
    whole = Document(
        content="text",
        blob=ByteStream(b"\x00\xff", meta={"k": 1}, mime_type="image/png"),
        meta={"content": "a field of that name", "id": 7, "nested": {"list": [1, None, {"x": 2.5}]}, "none": None},
        embedding=[0.1, 1 / 3],
        sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25]),
    )
    bare = Document(id="bare", meta={})
    store.write_documents([whole, bare])
    assert store.filter_documents() == [whole, bare]
    assert store.embedding_retrieval([1.0, 1.0], return_embedding=True)[0].embedding == [0.1, 1 / 3]


def test_what_is_written_is_checked_and_all_or_none(store: KektorDocumentStore) -> None:
    twice = [Document(id="x", content="1"), Document(id="x", content="2")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(twice)
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert store.write_documents([*twice, Document(id="y")], DuplicatePolicy.SKIP) == 1
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents("id = x")[0].content == "2"
    assert store.write_documents([]) == 0
    before = store.count_documents()
    with pytest.raises(kektordb.VectorError):
        store.write_documents([Document(id="new"), Document(id="z", embedding=[1.0])])
    with pytest.raises(kektordb.MetadataError):
        store.write_documents([Document(id="new", meta={"when": object()})])
    assert store.count_documents() == before


def test_threads_that_skip_write_each_document_once(store: KektorDocumentStore) -> None:
    written: list[int] = []

    def write() -> None:
        for start in range(0, 60, 10):
            some = [Document(id=f"t{n}") for n in range(start, start + 20)]
            written.append(store.write_documents(some, DuplicatePolicy.SKIP))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 24
    assert sum(written) == 70
    assert store.count_documents() == 74


# ----------------------------------------------------------------------------------------------------- update_by_filter

ALL = {"field": "meta.n", "operator": ">=", "value": 0}


def numbered(database: AnyDatabase) -> KektorDocumentStore:
    store = KektorDocumentStore(database, "numbered", embedding_dim=2)
    store.write_documents([Document(id=f"n{i}", meta={"n": i, "state": "old"}) for i in range(8)])
    return store


def states(store: KektorDocumentStore) -> list[str]:
    return [document.meta["state"] for document in store.filter_documents()]


def fail_at(monkeypatch: pytest.MonkeyPatch, kind: type, n: int, fail: Callable[[], None]) -> None:
    """Let something happen in place of the n-th change of metadata."""
    update, count = kind.update_metadata, itertools.count(1)  # type: ignore[attr-defined]

    def counted(*arguments: Any, **more: Any) -> None:
        if next(count) == n:
            fail()
        update(*arguments, **more)

    monkeypatch.setattr(kind, "update_metadata", counted)


def refuse() -> None:
    raise kektordb.StorageError("no room")


def test_an_update_that_fails_changes_nothing_or_on_a_server_is_finished_by_the_next(
    either_database: AnyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = numbered(either_database)
    n_changed = 0 if isinstance(either_database, kektordb.Database) else 4
    with monkeypatch.context() as patched:
        fail_at(patched, type(store.index), 5, refuse)
        with pytest.raises(kektordb.StorageError):
            store.update_by_filter(ALL, {"state": "new"})
    assert states(store).count("new") == n_changed
    with pytest.raises(kektordb.MetadataError):
        store.update_by_filter(ALL, {"state": "new", "when": object()})
    assert states(store).count("new") == n_changed

    assert store.update_by_filter(ALL, {"state": "new"}) == 8
    assert states(store) == ["new"] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system kills otherwise")
def test_a_killed_update_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kektordb.open(tmp_path / "db") as db:
        numbered(db)
    process = os.fork()
    if process == 0:
        try:
            fail_at(monkeypatch, kektordb.Index, 5, lambda: os.kill(os.getpid(), signal.SIGKILL))
            db = kektordb.open(tmp_path / "db", sync="always")
            KektorDocumentStore(db, "numbered", embedding_dim=2).update_by_filter(ALL, {"state": "new"})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL

    with kektordb.open(tmp_path / "db") as db:
        store = KektorDocumentStore(db, "numbered", embedding_dim=2)
        assert states(store) == ["old"] * 8


def test_what_others_set_while_an_update_is_under_way_is_not_lost() -> None:
    store = numbered(kektordb.open(":memory:"))
    n_rounds = 50
    begins = threading.Barrier(2)

    def count_up() -> None:
        begins.wait()
        for i in range(n_rounds):
            store.update_by_filter(ALL, {"one": i})

    other = threading.Thread(target=count_up)
    other.start()
    begins.wait()
    for i in range(n_rounds):
        # Each reads what it adds to.
        assert store.update_by_filter(ALL, {"two": i}) == 8
        assert [document.meta["two"] for document in store.filter_documents()] == [i] * 8
    other.join()
    for document in store.filter_documents():
        assert (document.meta["one"], document.meta["two"]) == (n_rounds - 1, n_rounds - 1)


def test_an_update_inside_a_batch_is_refused() -> None:
    db = kektordb.open(":memory:")
    store = numbered(db)
    with db.batch():
        with pytest.raises(kektordb.ConfigError, match="batch"):
            store.update_by_filter(ALL, {"state": "new"})
        db.kv["note"] = b"kept"
    assert states(store) == ["old"] * 8
    assert db.kv["note"] == b"kept"


def test_an_index_made_anew_has_its_configuration(either_database: AnyDatabase) -> None:
    settings = {"m": 5, "k1": 1.5, "precision": "float16", "stop_words": ["shoes"], "field_weights": {"content": 2.0}}
    store = KektorDocumentStore(either_database, "tuned", embedding_dim=2, settings=settings)
    store.write_documents(documents())
    before = store.index.config
    store.delete_all_documents(recreate_index=True)
    assert store.index.config == before
    assert store.count_documents() == 0
    plain = KektorDocumentStore(either_database, "plain", embedding_dim=2, text_language="")
    plain.delete_all_documents(recreate_index=True)
    assert plain.index.config.text_language == ""
    plain.index.attach_embedder("hashing:2")
    plain.delete_all_documents(recreate_index=True)
    assert plain.index.config.embedder == plain.index.embedder.name


def test_pipelines_are_saved_and_loaded_and_share_a_database(tmp_path: Path) -> None:
    store = KektorDocumentStore(str(tmp_path / "data"), embedding_dim=2)
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(store, DuplicatePolicy.OVERWRITE))
    saved = pipeline.dumps()
    trusted = ["kektordb.integrations.haystack"]
    assert store._opened is None, "nothing is opened before it is needed"
    assert Pipeline.loads(saved, allowed_modules=trusted).run({"writer": {"documents": documents()}}) == {
        "writer": {"documents_written": 4}
    }

    asking = Pipeline()
    asking.add_component("near", KektorEmbeddingRetriever(store, top_k=1, return_embedding=True))
    asking.add_component("words", KektorBM25Retriever(store, filters={"field": "price", "operator": "<", "value": 9}))
    asking.add_component("both", KektorHybridRetriever(store, alpha=0.25, filter_policy=FilterPolicy.MERGE))
    loaded = Pipeline.loads(asking.dumps(), allowed_modules=trusted)
    assert loaded.dumps() == asking.dumps()
    found = loaded.run(
        {
            "near": {"query_embedding": [0.0, 1.0]},
            "words": {"query": "shoes"},
            "both": {"query": "lamp", "query_embedding": [1.0, 0.0], "top_k": 1},
        }
    )
    assert [ids_of(found[name]["documents"]) for name in ("near", "words", "both")] == ["c", "d", "c"]
    store.index.database.close()  # type: ignore[union-attr]


def test_what_a_store_was_made_of_is_what_it_is_saved_as(either_database: AnyDatabase, tmp_path: Path) -> None:
    def saved(store: KektorDocumentStore) -> tuple[str, str]:
        parameters = store.to_dict()["init_parameters"]
        return parameters["database"], parameters["index_name"]

    index = either_database.create_index("mine", dim=2, text_language="english")
    store = KektorDocumentStore(index, embedding_dim=2)
    assert saved(store)[1] == "mine"
    assert saved(store)[0] == (":memory:" if isinstance(either_database, kektordb.Database) else saved(store)[0])
    store.write_documents(documents())
    assert len(index) == 4
    assert saved(KektorDocumentStore(tmp_path / "x")) == (str(tmp_path / "x"), "haystack")
    with kektordb.open(tmp_path / "y") as database:
        assert saved(KektorDocumentStore(database)) == (str(tmp_path / "y"), "haystack")
    again = KektorDocumentStore.from_dict(KektorDocumentStore(":memory:", metric="dot").to_dict())
    assert again.count_documents() == 0
    assert again.index.config.metric == "dot"


def test_a_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from live import live

    from kektordb.server import Options

    with kektordb.open(":memory:") as database, live(database, Options(token="secret")) as url:
        database.create_index("haystack", dim=768, text_language="english")
        monkeypatch.setenv("KEKTORDB_TOKEN", "wrong")
        with kektordb.connect(url, token="wrong") as denied, pytest.raises(kektordb.AccessDenied):
            KektorDocumentStore(denied).count_documents()
        monkeypatch.setenv("KEKTORDB_TOKEN", "secret")
        store = KektorDocumentStore(url)
        again = KektorDocumentStore.from_dict(store.to_dict())
        assert "secret" not in str(store.to_dict())
        for one in (store, again):
            assert one.count_documents() == 0
            one.index.database.close()
