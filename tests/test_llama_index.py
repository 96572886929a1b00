"""Does `KektorVectorStore` give what LlamaIndex's own SimpleVectorStore gives, and what that one has not?"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs kektordb[llama-index]")

from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    NodeRelationship,
    ObjectType,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

import kektordb
from kektordb.integrations.llama_index import KektorVectorStore
from kektordb.integrations.opening import AnyDatabase

Op = FilterOperator
Mode = VectorStoreQueryMode


def nodes() -> list[TextNode]:
    """Nodes of three documents with what SimpleVectorStore is tested with: numbers, texts, lists, fields not there."""
    metadata: list[dict[str, Any]] = [
        {"weight": 1.0, "rank": "a", "quality": ["medium", "high"], "code": "6FTR78Yun"},
        {"weight": 2.0, "rank": "c", "quality": ["medium"], "code": "6FTR78Ygl", "note": ""},
        {"weight": 3.0, "rank": "c", "quality": ["low", "medium", "high"], "code": "6ftr78Ztl", "note": "x"},
        {"weight": 4, "rank": "b", "quality": [], "code": "50%_off", "made": "2024-05-01", "nothing": None},
        {"weight": -1, "rank": "a", "code": "Ünder"},
    ]
    vectors = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.2], [0.8, -0.6]]
    texts = ["red running shoes", "blue shoes", "a lamp for runners", "a red hat", "nothing at all"]
    return [
        TextNode(
            id_=f"n{i}",
            text=texts[i],
            embedding=vectors[i],
            metadata=metadata[i],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{i // 2}")},
        )
        for i in range(5)
    ]


@pytest.fixture
def store(either_database: AnyDatabase) -> KektorVectorStore:
    store = KektorVectorStore(either_database, "docs", text_language="english")
    assert store.add(nodes()) == [f"n{i}" for i in range(5)]
    return store


@pytest.fixture
def simple() -> SimpleVectorStore:
    store = SimpleVectorStore()
    store.add(nodes())
    return store


def asked(filters: MetadataFilters | None = None, k: int = 10, **more: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[1.0, 0.9], similarity_top_k=k, filters=filters, **more)


FILTERS = [
    MetadataFilter(key="rank", value="c"),
    MetadataFilter(key="weight", value=2),
    MetadataFilter(key="weight", value=2.0, operator=Op.NE),
    MetadataFilter(key="note", value="x", operator=Op.NE),
    MetadataFilter(key="weight", value=1.5, operator=Op.GT),
    MetadataFilter(key="weight", value=1, operator=Op.GTE),
    MetadataFilter(key="weight", value=1.1, operator=Op.LT),
    MetadataFilter(key="weight", value=1.0, operator=Op.LTE),
    MetadataFilter(key="made", value="2024-01-01", operator=Op.GT),
    MetadataFilter(key="rank", value=["a", "c"], operator=Op.IN),
    MetadataFilter(key="weight", value=[1, 4, 9], operator=Op.IN),
    MetadataFilter(key="rank", value=[], operator=Op.IN),
    MetadataFilter(key="rank", value=["c"], operator=Op.NIN),
    MetadataFilter(key="note", value=["x"], operator=Op.NIN),
    MetadataFilter(key="quality", value="high", operator=Op.CONTAINS),
    MetadataFilter(key="quality", value=["high", "low"], operator=Op.ANY),
    MetadataFilter(key="quality", value=["medium", "high"], operator=Op.ALL),
    MetadataFilter(key="code", value="6FTR78Y", operator=Op.TEXT_MATCH),
    MetadataFilter(key="code", value="0%_", operator=Op.TEXT_MATCH),
    MetadataFilter(key="code", value="6Ftr", operator=Op.TEXT_MATCH_INSENSITIVE),
    MetadataFilter(key="code", value="ÜNDER", operator=Op.TEXT_MATCH_INSENSITIVE),
    MetadataFilter(key="unknown", value="c"),
    MetadataFilter(key="unknown", value=None, operator=Op.IS_EMPTY),
    MetadataFilter(key="quality", value=None, operator=Op.IS_EMPTY),
    MetadataFilter(key="note", value=None, operator=Op.IS_EMPTY),
    MetadataFilter(key="nothing", value=None, operator=Op.IS_EMPTY),
    MetadataFilter(key="weight", value=None, operator=Op.IS_EMPTY),
    MetadataFilter(key="ref_doc_id", value="doc-1"),
    MetadataFilter(key="doc_id", value=["doc-0", "doc-2"], operator=Op.IN),
]


@pytest.mark.parametrize("filter", FILTERS, ids=lambda one: f"{one.key} {one.operator.value} {one.value}")
def test_each_operator_finds_what_the_simple_store_finds(
    store: KektorVectorStore, simple: SimpleVectorStore, filter: MetadataFilter
) -> None:
    filters = MetadataFilters(filters=[filter])
    expected = simple.query(asked(filters))
    found = store.query(asked(filters))
    assert found.ids == expected.ids
    assert found.similarities == pytest.approx(expected.similarities, abs=1e-6)
    assert [node.node_id for node in found.nodes or []] == found.ids
    assert {node.node_id for node in store.get_nodes(filters=filters)} == set(expected.ids or [])


@pytest.mark.parametrize("condition", list(FilterCondition))
def test_conditions_join_any_operators_as_in_the_simple_store(
    store: KektorVectorStore, simple: SimpleVectorStore, condition: FilterCondition
) -> None:
    seen = set()
    for some in random.Random(3).sample(list(itertools.combinations(FILTERS, 2)), 40):
        filters = MetadataFilters(filters=list(some), condition=condition)
        expected = simple.query(asked(filters)).ids
        assert store.query(asked(filters)).ids == expected, filters
        seen.add(len(expected or []))
    assert len(seen) > 3


@pytest.mark.parametrize("k", [1, 2, 5, 50])
@pytest.mark.parametrize("node_ids", [None, ["n4"], ["n2", "n0", "gone"]])
def test_top_k_and_ids_as_in_the_simple_store(
    store: KektorVectorStore, simple: SimpleVectorStore, k: int, node_ids: list[str] | None
) -> None:
    for filters in (None, MetadataFilters(filters=[]), MetadataFilters(filters=[FILTERS[0]])):
        query = asked(filters, k, node_ids=node_ids)
        assert store.query(query).ids == simple.query(query).ids


def test_filters_may_be_nested(store: KektorVectorStore) -> None:
    inner = MetadataFilters(filters=[FILTERS[0], FILTERS[14]], condition=FilterCondition.AND)
    outer = MetadataFilters(filters=[inner, MetadataFilter(key="rank", value="b")], condition=FilterCondition.OR)
    assert set(store.query(asked(outer)).ids or []) == {"n2", "n3"}
    nothing = MetadataFilters(filters=[MetadataFilters(filters=[])])
    assert len(store.query(asked(nothing)).ids or []) == 5


def test_documents_and_ids_and_filters_intersect(store: KektorVectorStore) -> None:
    assert set(store.query(asked(doc_ids=["doc-0", "doc-2"])).ids or []) == {"n0", "n1", "n4"}
    assert store.query(asked(doc_ids=[])).ids == []
    assert store.query(asked(doc_ids=["missing"])).ids == []
    assert len(store.query(asked(node_ids=[])).ids or []) == 5, "an index that stores its nodes here asks like that"
    query = asked(MetadataFilters(filters=[FILTERS[0]]), doc_ids=["doc-0"], node_ids=["n0", "n1", "n2"])
    assert store.query(query).ids == ["n1"]
    many = [f"x{i}" for i in range(20_000)]
    assert store.query(asked(node_ids=[*many, "n3"])).ids == ["n3"]


@pytest.mark.parametrize(
    "filter",
    [
        MetadataFilter(key="rank", value="abc", operator=Op.IN),
        MetadataFilter(key="rank", value=None, operator=Op.ANY),
        MetadataFilter(key="rank", value="abc", operator=Op.ALL),
        MetadataFilter(key="rank", value=["a"], operator=Op.EQ),
        MetadataFilter(key="rank", value=1, operator=Op.TEXT_MATCH),
        MetadataFilter(key="rank", value=None, operator=Op.TEXT_MATCH_INSENSITIVE),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(store: KektorVectorStore, filter: MetadataFilter) -> None:
    filters = MetadataFilters(filters=[filter])
    with pytest.raises(kektordb.FilterError):
        store.query(asked(filters))
    with pytest.raises(kektordb.FilterError):
        store.delete_nodes(filters=filters)
    assert len(store.client) == 5


@pytest.mark.parametrize(
    ("threshold", "more", "ids"),
    [
        (0.0, {}, ["a", "c"]),
        (0.25, {}, ["a", "c"]),
        (1.0, {}, ["a", "b"]),
        (None, {}, ["a", "b"]),
        (1.0, {"mmr_threshold": 0.0}, ["a", "c"]),
        (0.0, {"mmr_threshold": 1.0}, ["a", "b"]),
        (0.0, {"mmr_threshold": None}, ["a", "b"]),
    ],
)
def test_marginal_relevance_weighs_by_its_threshold(
    either_database: AnyDatabase, threshold: float | None, more: dict[str, Any], ids: list[str]
) -> None:
    store = KektorVectorStore(either_database, "mmr")
    vectors = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}
    store.add([TextNode(id_=id, embedding=vector) for id, vector in vectors.items()])
    query = VectorStoreQuery([1.0, 0.0], similarity_top_k=2, mode=Mode.MMR, mmr_threshold=threshold)
    assert store.query(query, **more).ids == ids


def test_marginal_relevance_chooses_among_as_many_as_it_is_told(either_database: AnyDatabase) -> None:
    generator = random.Random(5)
    store = KektorVectorStore(either_database, "mmr")
    store.add([TextNode(id_=f"{i}", embedding=[generator.gauss(0, 1) for _ in range(8)]) for i in range(60)])
    near = store.query(VectorStoreQuery([1.0] * 8, similarity_top_k=10)).ids or []
    query = VectorStoreQuery([1.0] * 8, similarity_top_k=10, mode=Mode.MMR, mmr_threshold=0.2)
    few, many = store.query(query, mmr_prefetch_k=10).ids or [], store.query(query).ids or []
    assert few[0] == many[0] == near[0]
    assert set(few) == set(near)
    assert set(many) != set(near)


def test_words_and_words_with_the_vector(store: KektorVectorStore) -> None:
    by_words = store.query(VectorStoreQuery(query_str="shoe", mode=Mode.TEXT_SEARCH, similarity_top_k=5))
    assert set(by_words.ids or []) == {"n0", "n1"}
    assert store.query(VectorStoreQuery(query_str="shoe", mode=Mode.SPARSE, sparse_top_k=1)).ids in (["n0"], ["n1"])
    for mode in (Mode.HYBRID, Mode.SEMANTIC_HYBRID):
        words, vector = (
            store.query(VectorStoreQuery([0.8, -0.6], 1, query_str="hat", mode=mode, alpha=alpha)).ids
            for alpha in (0.1, 0.9)
        )
        assert (words, vector) == (["n3"], ["n4"])
    query = VectorStoreQuery([1.0, 1.0], 1, query_str="red", mode=Mode.HYBRID, hybrid_top_k=3, filters=None)
    assert len(store.query(query, fusion="rrf").ids or []) == 3
    with pytest.raises(kektordb.ConfigError, match="text"):
        store.query(asked(mode=Mode.HYBRID))
    with pytest.raises(kektordb.ConfigError, match="embedding"):
        store.query(VectorStoreQuery(query_str="red", mode=Mode.HYBRID))
    with pytest.raises(kektordb.ConfigError, match="embedding"):
        store.query(VectorStoreQuery(mode=Mode.MMR))
    with pytest.raises(ValueError, match="mode"):
        store.query(asked(mode=Mode.SVM))


def test_a_filter_of_our_own_and_options_come_as_keywords(store: KektorVectorStore) -> None:
    found = store.query(asked(), filter="weight < $most", params={"most": 2})
    assert set(found.ids or []) == {"n0", "n4"}
    both = store.query(asked(MetadataFilters(filters=[FILTERS[9]])), filter="weight > 1", ef_search=50)
    assert set(both.ids or []) == {"n1", "n2"}
    with pytest.raises(TypeError):
        store.query(asked(), filters="weight < 2")


def test_an_index_of_llama_index_works_with_it(either_database: AnyDatabase) -> None:
    store = KektorVectorStore(either_database, "docs", text_language="english")
    model = MockEmbedding(embed_dim=3)
    context = StorageContext.from_defaults(vector_store=store)
    texts = ["Red running shoes.", "Blue shoes.", "A lamp."]
    documents = [Document(text=text, doc_id=f"d{i}", metadata={"n": i}) for i, text in enumerate(texts)]
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=model)

    index = VectorStoreIndex.from_vector_store(store, embed_model=model)

    assert len(index.as_retriever(similarity_top_k=9).retrieve("shoes")) == 3
    words = index.as_retriever(vector_store_query_mode="text_search", similarity_top_k=9).retrieve("shoe")
    assert {one.node.get_content() for one in words} == {"Red running shoes.", "Blue shoes."}
    assert all(one.score and one.score > 0 for one in words)
    hybrid = index.as_retriever(vector_store_query_mode="hybrid", alpha=0.0, similarity_top_k=1)
    assert hybrid.retrieve("lamp")[0].node.metadata == {"n": 2}
    own = index.as_retriever(vector_store_kwargs={"filter": "n >= 1"}, similarity_top_k=9)
    assert {one.node.ref_doc_id for one in own.retrieve("x")} == {"d1", "d2"}
    index.insert(Document(text="A new hat.", doc_id="d9"))
    index.delete_ref_doc("d0")
    assert {node.ref_doc_id for node in store.get_nodes()} == {"d1", "d2", "d9"}
    one = QueryBundle("x", embedding=[1.0, 1.0, 1.0])
    assert len(asyncio.run(index.as_retriever(vector_store_query_mode="mmr").aretrieve(one))) == 2


def test_every_kind_of_node_comes_back_as_it_was(either_database: AnyDatabase) -> None:
    store = KektorVectorStore(either_database, "kinds")
    related = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d", node_type=ObjectType.DOCUMENT, metadata={"k": 1}),
        NodeRelationship.NEXT: RelatedNodeInfo(node_id="later", hash="h"),
    }
    given: list[BaseNode] = [
        TextNode(
            id_="t",
            text="text ü\n",
            metadata={"nested": {"a": [1, None, {"b": 2.5}]}, "none": None, "id": 7},
            relationships=related,
            excluded_embed_metadata_keys=["id"],
            start_char_idx=3,
            end_char_idx=9,
            mimetype="text/markdown",
        ),
        IndexNode(id_="i", text="points", index_id="elsewhere"),
        ImageNode(id_="p", text="caption", image="QUJD", image_mimetype="image/png"),
        TextNode(id_="e", text=""),
    ]
    for node in given:
        node.embedding = [1.0, 2.0]
    store.add(given)
    found = store.get_nodes([node.node_id for node in given])
    for node, expected in zip(found, given, strict=True):
        expected.embedding = None
        assert type(node) is type(expected)
        assert node == expected
    store.add([TextNode(id_="date", text="x", metadata={"at": datetime(2024, 5, 1)}, embedding=[1.0, 1.0])])
    assert store.get_nodes(["date"])[0].metadata == {"at": "2024-05-01T00:00:00"}


def test_items_that_others_wrote_become_nodes(either_database: AnyDatabase) -> None:
    index = either_database.create_index("foreign")
    index.add("a", [1.0, 0.0], {"page_content": "hello", "n": 1})
    store = KektorVectorStore(index, text_key="page_content")
    [node] = store.query(VectorStoreQuery([1.0, 0.0])).nodes or []
    assert (node.node_id, node.get_content(), node.metadata) == ("a", "hello", {"n": 1})
    assert store.client is index


def test_delete_by_document_ids_filters_and_all(store: KektorVectorStore) -> None:
    store.delete("doc-0")
    store.delete("missing")
    assert store.client.ids() == ["n2", "n3", "n4"]
    store.delete_nodes(["n2", "gone"])
    store.delete_nodes([])
    store.delete_nodes(["n3", "n4"], MetadataFilters(filters=[MetadataFilter(key="rank", value="b")]))
    assert store.client.ids() == ["n4"]
    with pytest.raises(kektordb.ConfigError, match="clear"):
        store.delete_nodes()
    store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="rank", value="a")]))
    assert len(store.client) == 0
    store.add(nodes())
    store.clear()
    assert store.query(asked()).ids == []


def test_what_is_added_is_checked_and_all_or_none(store: KektorVectorStore) -> None:
    assert store.add([]) == []
    twice = [TextNode(id_="x", text=text, embedding=[1.0, 1.0]) for text in ("first", "last")]
    assert store.add(twice) == ["x", "x"]
    assert store.get_nodes(["x", "gone"])[0].get_content() == "last"
    before = len(store.client)
    good = TextNode(id_="good", embedding=[1.0, 1.0])
    for bad in (
        TextNode(id_="bad"),
        TextNode(id_="bad", embedding=[1.0]),
        TextNode(id_="bad", embedding=[1.0, 1.0], metadata={"text": "mine"}),
        TextNode(id_="bad", embedding=[1.0, 1.0], metadata={"_node": 1}),
    ):
        with pytest.raises(ValueError, match=r"embedding|lengths|key"):
            store.add([good, bad])
    assert len(store.client) == before


def test_asynchronous_calls_do_the_same(store: KektorVectorStore) -> None:
    async def ask() -> None:
        assert (await store.aquery(asked(k=1))).ids == ["n2"]
        assert await store.async_add([TextNode(id_="x", embedding=[1.0, 1.0])]) == ["x"]
        assert [node.node_id for node in await store.aget_nodes(["x"])] == ["x"]
        await store.adelete_nodes(["x"])
        await store.adelete("doc-0")
        assert len(await store.aget_nodes()) == 3
        await store.aclear()
        assert await store.aget_nodes() == []

    asyncio.run(ask())


def test_threads_add_query_and_delete_at_the_same_time(store: KektorVectorStore) -> None:
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for turn in range(10):
                store.add([TextNode(id_=f"{name}-{turn}", text="t", embedding=[1.0, turn])])
                assert store.query(asked()).ids
                store.delete_nodes([f"{name}-{turn - 1}", "shared"])
                store.add([TextNode(id_="shared", text="t", embedding=[1.0, 1.0])])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert set(store.client.ids()) - {"shared"} == {*(f"n{i}" for i in range(5)), *(f"{i}-9" for i in range(4))}


def test_nodes_are_there_again_after_the_database_was_closed(tmp_path: Path) -> None:
    store = KektorVectorStore(tmp_path / "data", "docs", metric="dot")
    store.add(nodes())
    store.persist("not used")
    store.client.database.close()
    again = KektorVectorStore(str(tmp_path / "data"), "docs")
    found = again.query(asked(k=1))
    assert found.similarities == pytest.approx([1.9])
    assert (found.nodes or [])[0].metadata == nodes()[2].metadata
    again.client.database.close()
