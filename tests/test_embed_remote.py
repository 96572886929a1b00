"""Texts go to a server as vectors: the embedder runs beside the client, and the server keeps its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb.embed import CallableEmbedder
from kektordb.errors import ConfigError
from kektordb.remote import RemoteDatabase, connect


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[kektordb.Database, str]]:
    with kektordb.open(":memory:") as database, live(database) as url:
        yield database, url


@pytest.fixture
def db(served: tuple[kektordb.Database, str]) -> Iterator[RemoteDatabase]:
    database, url = served
    with connect(url) as db:
        yield db
    for name in list(database):
        database.drop_index(name)


def test_texts_are_embedded_here_and_found_there(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    index = db.create_index("docs", embedder="hashing:32", text_language="english")

    ids = index.add_texts(["bake bread with yeast", "the weather is nice"], metadata=[{"page": 1}, None])

    assert index.search(query_text="baking bread", k=1)[0].id == ids[0]
    assert index.config.embedder == "hashing:32"
    embedded = served[0]["docs"]
    assert embedded.config.embedder == "hashing:32"
    assert embedded.dim == 32
    assert embedded.embedder is None
    embedded.attach_embedder()
    assert embedded.search(query_text="baking bread", k=1)[0].metadata["page"] == 1


def test_another_client_with_another_embedder_is_refused(
    served: tuple[kektordb.Database, str], db: RemoteDatabase
) -> None:
    db.create_index("docs", dim=4)
    db["docs"].attach_embedder(CallableEmbedder(lambda texts: np.ones((len(texts), 4)), name="one"))
    other = CallableEmbedder(lambda texts: np.ones((len(texts), 4)), name="two")

    with connect(served[1]) as second:
        index = second["docs"]
        with pytest.raises(ConfigError, match="attach_embedder"):
            index.search(query_text="a")
        with pytest.raises(ConfigError, match=r"'one'.*'two'"):
            index.attach_embedder(other)
        index.attach_embedder(other, rename=True)
        assert index.config.embedder == "two"
    with pytest.raises(ConfigError, match=r"'two'.*'one'"):
        db["docs"].add_texts(["a"])


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 513, 5, ["a"]])
def test_a_server_keeps_no_name_that_is_none(db: RemoteDatabase, name: Any) -> None:
    db.create_index("docs", dim=4)

    with pytest.raises(ConfigError):
        db._transport.post("/vector/indexes/docs/config", {"embedder": name})
    assert db["docs"].config.embedder == ""


def test_a_server_makes_no_embedder_of_a_name(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    body = {"index_name": "docs", "embedder": "ollama:nomic-embed-text"}

    db._transport.post("/vector/actions/create", body)

    assert served[0]["docs"].config.embedder == "ollama:nomic-embed-text"
    assert served[0]["docs"].embedder is None


def test_a_dropped_index_takes_the_embedder_along(db: RemoteDatabase) -> None:
    db.create_index("docs", embedder="hashing:8")
    db.drop_index("docs")
    index = db.create_index("docs", dim=8)

    assert index.embedder is None


def test_texts_from_asyncio(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    db.create_index("docs", dim=8)

    async def work() -> list[str]:
        async with kektordb.connect_async(served[1]) as database:
            index = await database.index("docs")
            await index.attach_embedder("hashing:8")
            ids = await index.add_texts(["bread", "weather"])
            found = await index.search(query_text="bread", k=1)
            assert found[0].id == ids[0]
            return ids

    assert len(asyncio.run(work())) == 2
