"""Links between items: they go with the index and with the item, whoever drops or deletes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import Caller

import kektordb
from kektordb.kv import AllKeys
from kektordb.links import RESERVED, Link, Links, key_of, link_of
from kektordb.safety.dumping import dump
from kektordb.safety.undumping import load
from kektordb.server import Options, create_app

texts = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.builds(Link, texts, texts, texts, texts))
def test_the_key_of_a_link_says_which_one_it_is(link: Link) -> None:
    assert link_of(key_of(link)) == link


@pytest.mark.parametrize(
    "rest", ["", "1:a", "1:a1:b1:c", "1:a1:b1:c1:dx", "1:a1:b1:c9:d", "01:a1:b1:c1:d", "²:a1:b1:c"]
)
def test_keys_that_are_no_links_are_left_alone(rest: str) -> None:
    with kektordb.open(":memory:") as db:
        keys = AllKeys(db)
        keys[f"{RESERVED}edge\0{rest}"] = b"mine"
        assert not db._state.kv.links
        keys.clear()
        assert not len(keys)


def test_they_are_found_by_both_ends_until_they_are_forgotten() -> None:
    links = Links()
    keys = [key_of(Link("a", *ends)) for ends in (("p", "r", "q"), ("p", "r", "p"), ("q", "s", "p"), ("q", "s", "r"))]
    for key in keys:
        links.note(key)
    assert links.outgoing("a", "p") == {"r": ["q", "p"]}
    assert links.incoming("a", "p") == {"r": ["p"], "s": ["q"]}
    assert sorted(links.of_id("a", "p")) == sorted(keys[:3])
    assert links.of_id("b", "p") == links.of_space("b") == []
    assert sorted(links.of_space("a")) == sorted(keys)
    for key in keys:
        links.forget(key)
    assert not links
    assert (links._out, links._in) == ({}, {})


class Linked:
    """A database with an embedded side and a server over it."""

    def __init__(self, path: Path | str) -> None:
        self.db = kektordb.open(path, autosave="", sync="no")
        self.call = Caller(create_app(self.db, Options()))

    def fill(self, name: str = "a") -> None:
        index = self.db.create_index(name, dim=2)
        index.add_batch(["p", "q", "r"], [[1, 0], [0, 1], [1, 1]], [{"n": n} for n in range(3)])
        for source, target in (("p", "q"), ("q", "r"), ("r", "p")):
            self.link(source, target, name)

    def link(self, source: str, target: str, name: str = "a") -> None:
        body = {"index_name": name, "source_id": source, "target_id": target, "relation_type": "next"}
        self.call.ok("POST", "/graph/actions/link", body)

    def targets(self, source: str, name: str = "a") -> list[str]:
        body = {"index_name": name, "source_id": source, "relation_type": "next"}
        found: list[str] = self.call.ok("POST", "/graph/actions/get-links", body)["targets"]
        return found

    def all(self, name: str = "a") -> dict[str, list[str]]:
        return {id: self.targets(id, name) for id in "pqr"}

    def close(self) -> None:
        self.call.close()
        self.db.close()


WHOLE = {"p": ["q"], "q": ["r"], "r": ["p"]}
NONE = {"p": [], "q": [], "r": []}


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Linked]:
    linked = Linked(tmp_path / "db")
    linked.fill()
    yield linked
    linked.close()


@pytest.mark.parametrize("in_batch", [False, True])
def test_they_are_no_keys_of_the_user(linked: Linked, tmp_path: Path, in_batch: bool) -> None:
    keys = linked.db.kv
    key = key_of(Link("a", "p", "next", "q"))
    with linked.db.batch() if in_batch else contextlib.nullcontext():
        keys["mine"] = b""
        assert list(keys) == ["mine"]
        with pytest.raises(kektordb.ConfigError, match="reserved"):
            del keys[key]
        keys.clear()
    assert (len(keys), linked.all()) == (0, WHOLE)
    linked.close()
    again = Linked(tmp_path / "db")
    assert again.all() == WHOLE
    again.close()


def test_an_index_of_the_same_name_does_not_inherit_links(linked: Linked) -> None:
    linked.fill("b")

    linked.db.drop_index("a")

    assert [key for key in AllKeys(linked.db) if key_of(Link("a", "", "", ""))[:18] in key] == []
    linked.db.create_index("a", dim=2)
    assert linked.all() == NONE
    assert linked.all("b") == WHOLE


def test_an_item_that_is_deleted_takes_its_links_along(linked: Linked) -> None:
    index = linked.db["a"]

    index.delete("q")
    assert linked.all() == {"p": [], "q": [], "r": ["p"]}
    index.add("q", [0, 1])
    assert linked.all() == {"p": [], "q": [], "r": ["p"]}

    index.upsert("p", [5, 5])  # in the place of the old one: the same item
    index.update_metadata("p", {"n": 7})
    assert linked.targets("r") == ["p"]
    index.delete(filter="n = 7")
    assert linked.all() == NONE
    assert not len(AllKeys(linked.db))


def test_a_batch_takes_them_along_or_does_not(linked: Linked) -> None:
    with contextlib.suppress(KeyError), linked.db.batch():
        linked.db["a"].delete(["p", "q"])
        raise KeyError("no")
    assert linked.all() == WHOLE
    with linked.db.batch():
        linked.db["a"].delete(["p", "q"])
        linked.db["a"].add("p", [1, 1])
    assert linked.all() == NONE


@pytest.mark.parametrize("saved", ["before", "between", "after", "never"])
def test_what_is_gone_stays_gone_when_it_is_opened_again(linked: Linked, tmp_path: Path, saved: str) -> None:
    linked.fill("b")
    if saved == "before":
        linked.db.save()
    linked.db["a"].delete("p")
    if saved == "between":
        linked.db.save()
    linked.db.drop_index("b")
    linked.db.create_index("b", dim=2)
    if saved == "after":
        linked.db.save()
    linked.close()

    again = Linked(tmp_path / "db")
    assert again.all() == {"p": [], "q": ["r"], "r": []}
    assert again.all("b") == NONE
    again.close()


def test_followers_and_readers_see_them_go(linked: Linked, tmp_path: Path) -> None:
    options = {"follow": tmp_path / "db", "follow_interval": 0.0}
    with (
        kektordb.open(tmp_path / "copy", **options) as copy,
        kektordb.open(tmp_path / "db", read_only=True) as reader,
    ):
        sides = [Caller(create_app(side)) for side in (copy, reader)]
        body = {"index_name": "a", "source_id": "r", "relation_type": "next"}
        for call in sides:
            assert call.ok("POST", "/graph/actions/get-links", body)["targets"] == ["p"]
        linked.db["a"].delete("p")
        linked.db.sync()
        for side in (copy, reader):
            side.refresh()
        for call in sides:
            assert call.ok("POST", "/graph/actions/get-links", body)["targets"] == []
            call.close()


def test_backups_and_dumps_have_them(linked: Linked, tmp_path: Path) -> None:
    linked.db["a"].delete("p")
    expected = {"p": [], "q": ["r"], "r": []}
    linked.db.backup(tmp_path / "backup.kdb")
    kektordb.restore(tmp_path / "backup.kdb", tmp_path / "restored")
    dump(linked.db, tmp_path / "dumped")
    load(tmp_path / "dumped", tmp_path / "undumped")
    for name in ("restored", "undumped"):
        other = Linked(tmp_path / name)
        assert other.all() == expected
        other.db.drop_index("a")
        assert not len(AllKeys(other.db))
        other.close()


def test_links_of_an_index_that_is_not_there_are_left_behind_when_it_is_opened(tmp_path: Path) -> None:
    """Versions before this one left them where an index was dropped."""
    with kektordb.open(tmp_path / "db") as db:
        AllKeys(db).update({key_of(Link(space, "p", "next", "q")): b"" for space in ("gone", "")})
        db.save()
    with kektordb.open(tmp_path / "db") as db:
        assert list(AllKeys(db)) == [key_of(Link("", "p", "next", "q"))]


def test_links_that_are_made_while_the_index_is_dropped_go_with_it(linked: Linked) -> None:
    stop, failures = threading.Event(), []

    def relink() -> None:
        while not stop.is_set():
            try:
                linked.call.app.service.edges.link("a", "p", "next", "q")
                linked.call.app.service.edges.unlink("a", "p", "next", "q")
                linked.call.app.service.edges.outgoing("a", "p")
            except kektordb.IndexNotFound:
                continue
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=relink) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        linked.db.drop_index("a")
        left = list(AllKeys(linked.db))
        assert left == []
        linked.db.create_index("a", dim=2)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
