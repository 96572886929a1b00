"""The key-value store is a sorted mapping, and its frozen views are copies."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sections import Sections

import kektordb
from kektordb.errors import ConfigError, CorruptSnapshot, DatabaseClosed
from kektordb.kv import MAX_KEY_BYTES, MAX_VALUE_BYTES, AllKeys, KeyValue, KeyValueView
from kektordb.links import RESERVED
from kektordb.types import Section


class FakeDatabase:
    """Keeps what a database would make durable."""

    def __init__(self, state: KeyValue | None = None) -> None:
        self.state = state or KeyValue()
        self.commits: list[tuple[str, bytes | None]] = []
        self.is_closed = False

    def _kv(self) -> KeyValue:
        if self.is_closed:
            raise DatabaseClosed("closed")
        return self.state

    def _kv_commit(self, key: str, value: bytes | None) -> None:
        self._kv()
        self.commits.append((key, value))
        if value is None:
            self.state.delete(key)
        else:
            self.state.set(key, value)


def loaded(sections: list[Section]) -> KeyValue:
    state = KeyValue()
    state.load(Sections(sections))
    return state


def contents(state: KeyValue) -> dict[str, bytes | None]:
    return {key: state.get(key) for key in state.prefix()}


@pytest.mark.parametrize("many", [0, 20, 1024])
def test_state_equals_a_sorted_dict_under_random_changes(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr("kektordb.kv.MANY_CHANGES", many)
    rng = random.Random(1)
    state, model = KeyValue(), dict[str, bytes]()

    for step in range(5000):
        key = rng.choice(["user:", "é:", "\U0001f600", "\uffff", RESERVED]) + str(rng.randrange(200))
        if rng.random() < 0.4:
            assert state.delete(key) == (model.pop(key, None) is not None)
        else:
            model[key] = rng.randbytes(rng.randrange(20))
            state.set(key, model[key])
        if step % (many or 50) < 2:
            prefix = key[: rng.randrange(len(key))]
            expected = sorted((k for k in model if k.startswith(prefix)), key=str.encode)
            assert list(state.prefix(prefix)) == expected

    n_own = sum(not key.startswith(RESERVED) for key in model)
    assert 0 < n_own < len(model)
    for found in (state, loaded(state.freeze())):
        assert (len(found), found.n_own) == (len(model), n_own)
        assert contents(found) == model


def test_all_keys_are_not_sorted_anew_after_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    state = KeyValue()
    for i in range(5000):
        state.set(f"{i * 7919 % 5000:05d}", b"")
    sorts, sort = [], KeyValue._sort
    monkeypatch.setattr(KeyValue, "_sort", lambda *args: (sorts.append(1), sort(*args))[1])

    for i in range(500):
        state.set(f"new {i:03d}", b"")
        state.delete(f"{i:05d}")
        assert list(state.prefix("new")) == [f"new {n:03d}" for n in range(i + 1)]
        assert next(state.prefix("0")) == f"{i + 1:05d}"
    assert len(sorts) == 1


def test_iterator_shows_the_keys_of_the_moment_it_was_made() -> None:
    state = KeyValue()
    for key in "bdac":
        state.set(key, b"")
    keys = state.prefix()

    assert next(keys) == "a"
    state.delete("b")
    state.set("aa", b"")

    assert list(keys) == ["b", "c", "d"]
    assert list(state.prefix()) == ["a", "aa", "c", "d"]


def test_frozen_view_survives_changes_and_can_be_read_again() -> None:
    rng = random.Random(2)
    state = KeyValue()
    for i in range(300):
        state.set(f"ключ-{i}", rng.randbytes(rng.randrange(3000)))
    before = contents(state)
    sections = state.freeze()

    for i in range(0, 300, 2):
        state.delete(f"ключ-{i}")
        state.set(f"new-{i}", b"x")

    assert contents(loaded(sections)) == before
    assert contents(loaded(sections)) == before
    whole = sections[0].read(0, sections[0].n_bytes)
    assert sections[0].read(5000, 5100) == whole[5000:5100]


def test_loaded_state_goes_on_and_freezes_the_right_size() -> None:
    state = KeyValue()
    state.set("é", b"12345")
    again = loaded(state.freeze())

    again.set("é", b"1")
    again.set("b", b"22")
    again.delete("é")

    assert contents(loaded(again.freeze())) == {"b": b"22"}
    assert again.freeze()[0].n_bytes == 8 + 1 + 2


@pytest.mark.parametrize(
    "data",
    [
        b"\1",
        b"\1\0\0\0\0\0\0",
        b"\1\0\0\0\0\0\0\0",
        b"\0\0\0\0\1\0\0\0a",
        b"\1\0\0\0\0\0\0\0\xff",
        b"\1\0\0\0\xff\xff\xff\xffa",
        b"\xff\xff\xff\xff\0\0\0\0a",
        b"\1\0\0\0\0\0\0\0a" * 2,
        b"\1\0\0\0\1\0\0\0ab" + b"\1",
    ],
)
def test_damaged_section_is_refused_and_leaves_the_state_alone(data: bytes) -> None:
    state = KeyValue()
    state.set("mine", b"1")
    sections = Sections([])
    sections.data["kv/pairs"] = data

    with pytest.raises(CorruptSnapshot):
        state.load(sections)

    assert contents(state) == {"mine": b"1"}


def test_memory_grows_and_shrinks_with_the_pairs() -> None:
    state = KeyValue()

    state.set("a", bytes(10_000))
    full = state.memory_bytes()
    state.set("a", b"")

    assert 10_000 < full < 11_000
    assert state.memory_bytes() < 1000


def test_order_is_never_stale_beside_a_writer() -> None:
    state = KeyValue()
    is_done = threading.Event()
    errors: list[str] = []
    n_set = 0

    def write() -> None:
        nonlocal n_set
        for i in range(3000):
            state.set(f"{i:05d}", b"")
            n_set += 1
        is_done.set()

    def read() -> None:
        while not is_done.is_set():
            seen = n_set
            keys = list(state.prefix())
            if len(keys) < seen or keys != sorted(keys):
                errors.append(f"{len(keys)} keys after {seen}")

    threads = [threading.Thread(target=body) for body in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert errors == []
    assert len(list(state.prefix())) == 3000


def test_what_has_changed_is_seen_beside_other_threads_that_change_and_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writes under a lock, as commits do, and must find its own keys at once, and those it deleted no more."""
    monkeypatch.setattr("kektordb.kv.MANY_CHANGES", 30)
    state, commits = KeyValue(), threading.Lock()
    wrong: list[object] = []

    def work(own: str) -> None:
        mine: list[str] = []
        for i in range(400):
            with commits:
                state.set(f"{own}{i:04d}", b"")
            mine.append(f"{own}{i:04d}")
            if i % 3 == 2:
                with commits:
                    state.delete(mine.pop(0))
            found = list(state.prefix(own))
            if found != mine:
                wrong.append((found, mine))

    threads = [threading.Thread(target=work, args=(own,)) for own in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(list(state.prefix())) == len(state)


def test_view_is_a_mutable_mapping_in_key_order() -> None:
    database = FakeDatabase()
    kv = KeyValueView(database)

    kv["b"] = b"2"
    kv["a"] = "é"
    kv["c"] = bytearray(b"3")
    kv["user:1"] = memoryview(b"123456")[::2]

    assert list(kv) == ["a", "b", "c", "user:1"]
    assert dict(kv) == {"a": "é".encode(), "b": b"2", "c": b"3", "user:1": b"135"}
    assert list(kv.prefix("user:")) == ["user:1"]
    assert list(kv.prefix("x")) == []
    assert (kv.get_str("a"), kv.get_str("z"), kv.get_str("z", "none")) == ("é", None, "none")
    assert (kv.get("z"), kv.get("b"), "b" in kv, "z" in kv, kv.__contains__(5)) == (None, b"2", True, False, False)
    assert kv.pop("b") == b"2"
    del kv["c"]
    assert len(kv) == 2
    assert database.commits[-2:] == [("b", None), ("c", None)]
    kv.clear()
    assert (len(kv), list(kv)) == (0, [])


def test_stored_value_does_not_follow_its_buffer() -> None:
    kv = KeyValueView(FakeDatabase())
    buffer = bytearray(b"abc")

    kv["a"] = buffer
    buffer[0] = 0

    assert kv["a"] == b"abc"


def test_missing_key_is_a_key_error_and_no_commit() -> None:
    database = FakeDatabase()
    kv = KeyValueView(database)

    with pytest.raises(KeyError, match="nope"):
        kv["nope"]
    with pytest.raises(KeyError, match="nope"):
        del kv["nope"]

    assert database.commits == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("", b"", "1 to 65536 bytes, got 0"),
        ("é" * 32_769, b"", "got 65538"),
        ("\ud800", b"", "surrogates"),
        (b"a", b"", "str as key, got bytes"),
        (1, b"", "got int"),
        ("a", 5, "got int"),
        ("a", None, "got NoneType"),
        ("a", "\ud800", "surrogates"),
    ],
)
def test_keys_and_values_that_do_not_fit_are_refused(key: str, value: bytes, words: str) -> None:
    database = FakeDatabase()

    with pytest.raises(ConfigError, match=words):
        KeyValueView(database)[key] = value

    assert database.commits == []


def test_longest_key_is_accepted_and_a_longer_value_is_not() -> None:
    kv = KeyValueView(FakeDatabase())

    kv["k" * MAX_KEY_BYTES] = b"v"
    with pytest.raises(ConfigError, match="268435457"):
        kv["a"] = memoryview(bytearray(MAX_VALUE_BYTES + 1))

    assert len(kv) == 1


def test_closed_database_speaks_through_the_view() -> None:
    database = FakeDatabase()
    kv = KeyValueView(database)
    kv["a"] = b"1"
    database.is_closed = True

    for call in (lambda: kv["a"], lambda: len(kv), lambda: list(kv), lambda: kv.get("a"), lambda: "a" in kv):
        with pytest.raises(DatabaseClosed):
            call()
    with pytest.raises(DatabaseClosed):
        kv["a"] = b"2"


KEPT = f"{RESERVED}kept"


@pytest.fixture(params=["at once", "in a batch"])
def kept(request: pytest.FixtureRequest) -> Iterator[kektordb.Database]:
    """Give a database that keeps a key for itself, and has three others, before and behind it."""
    with kektordb.open(":memory:") as db:
        AllKeys(db).update({KEPT: b"kept", f"{RESERVED}gone": b""})
        db.kv.update({"\0": b"1", RESERVED[:-1]: b"2", "z": b"3"})
        with db.batch() if request.param == "in a batch" else contextlib.nullcontext():
            del AllKeys(db)[f"{RESERVED}gone"]
            yield db
            assert (len(AllKeys(db)), AllKeys(db)[KEPT]) == (len(db.kv) + 1, b"kept")
        assert (len(AllKeys(db)), db.stats()["n_keys"]) == (len(db.kv) + 1, len(db.kv))


def test_what_the_database_keeps_for_itself_is_not_found(kept: kektordb.Database) -> None:
    kv, others = kept.kv, ["\0", RESERVED[:-1], "z"]

    assert (list(kv), list(kv.keys()), list(kv.values()), len(kv)) == (others, others, [b"1", b"2", b"3"], 3)
    assert repr(kv) == "<KeyValueView of 3 keys>"
    assert (list(kv.prefix("\0")), list(kv.prefix(RESERVED)), list(kv.prefix(KEPT))) == (others[:2], [], [])
    assert (KEPT in kv, kv.get(KEPT), kv.get(KEPT, b"x"), kv.get_str(KEPT, "x")) == (False, None, b"x", "x")
    for find in (lambda: kv[KEPT], lambda: kv.pop(KEPT)):
        with pytest.raises(KeyError):
            find()
    assert kv.pop(KEPT, b"x") == b"x"
    assert kv == {"\0": b"1", RESERVED[:-1]: b"2", "z": b"3"}


@pytest.mark.parametrize("key", [KEPT, f"{RESERVED}missing", RESERVED])
def test_what_the_database_keeps_for_itself_is_not_changed(kept: kektordb.Database, key: str) -> None:
    kv = kept.kv

    for change in (
        lambda: kv.__setitem__(key, b"mine"),
        lambda: kv.__delitem__(key),
        lambda: kv.setdefault(key, b"mine"),
        lambda: kv.update({key: b"mine"}),
    ):
        with pytest.raises(ConfigError, match=r"reserved: those that begin with '\\x00kektordb\\x00' are"):
            change()

    assert (len(kv), len(AllKeys(kept))) == (3, 4)


def test_all_keys_of_the_user_go_and_no_other(kept: kektordb.Database) -> None:
    assert kept.kv.popitem() == ("\0", b"1")
    kept.kv.clear()

    assert (len(kept.kv), list(kept.kv), bool(kept.kv)) == (0, [], False)
    with pytest.raises(KeyError):
        kept.kv.popitem()
    assert list(AllKeys(kept)) == [KEPT]


def test_the_number_of_keys_is_right_beside_a_thread_that_changes_hidden_ones() -> None:
    state, is_done = KeyValue(), threading.Event()
    state.set("own", b"")
    view, seen = KeyValueView(FakeDatabase(state)), {1}

    def write() -> None:
        for _ in range(20_000):
            state.set(KEPT, b"")
            state.delete(KEPT)
        is_done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not is_done.is_set():
        seen.add(len(view))
    thread.join(20)

    assert seen == {1}


def test_a_look_at_the_first_keys_after_a_change_does_not_go_through_all_of_them() -> None:
    class Counted(list[str]):
        def __getitem__(self, at: Any) -> Any:
            seen.append(at)
            return super().__getitem__(at)

    seen: list[Any] = []
    state = KeyValue()
    for i in range(5000):
        state.set(f"{i:05d}", b"")
    next(state.prefix())
    order = state._order
    assert order is not None
    assert order.keys is not None
    order.keys = Counted(order.keys)

    for i in range(20):
        state.delete(f"{i:05d}")
        state.set(f"x{i}", b"")
        assert next(state.prefix()) == f"{i + 1:05d}"
        assert next(state.prefix("03")) == "03000"
    assert len(seen) < 20_000
    assert list(state.prefix("0498")) == [f"0498{i}" for i in range(10)]


def test_a_batch_sees_its_keys_without_going_through_all_its_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts, sort = [], KeyValue._sort
    monkeypatch.setattr(KeyValue, "_sort", lambda *args: (sorts.append(1), sort(*args))[1])
    with kektordb.open(":memory:") as db:
        db.kv.update({f"old {i:03d}": b"" for i in range(300)})
        with db.batch():
            for i in range(300):
                db.kv[f"new {i:03d}"] = b""
                del db.kv[f"old {i:03d}"]
                assert len(db.kv) == 300
                assert next(db.kv.prefix("old"), None) == (f"old {i + 1:03d}" if i < 299 else None)
                assert next(iter(db.kv)) == "new 000"
        assert len(sorts) == 3
        assert list(db.kv) == [f"new {i:03d}" for i in range(300)]


def test_a_batch_equals_a_dict_under_random_changes() -> None:
    rng = random.Random(3)
    with kektordb.open(":memory:") as db:
        model = {f"{rng.randrange(60):02d}": rng.randbytes(2) for _ in range(40)}
        db.kv.update(model)
        with db.batch():
            AllKeys(db)[f"{RESERVED}kept"] = b""
            for _ in range(2000):
                key = f"{rng.randrange(60):02d}"
                if rng.random() < 0.5 and key in model:
                    del db.kv[key], model[key]
                else:
                    db.kv[key] = model[key] = rng.randbytes(2)
                prefix = key[: rng.randrange(3)]
                keys = db.kv.prefix(prefix)
                seen = sorted(one for one in model if one.startswith(prefix))
                first = next(keys, None)
                if first is not None:
                    value = model[first]
                    del db.kv[first]  # what is begun shows what was there
                    db.kv[first] = value
                assert [one for one in (first, *keys) if one is not None] == seen
                assert (len(db.kv), len(AllKeys(db))) == (len(model), len(model) + 1)
        assert db.kv == model
