"""Columns answer as a walk over all rows does, whatever was added, removed, merged, frozen and loaded before."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import filter_rows, is_ordered, lower, values
from sections import Sections

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb._metadata import encode_metadata
from kektordb.errors import CorruptSnapshot, MetadataError
from kektordb.query import ast
from kektordb.query.operand import value_of, value_of_python
from kektordb.query.planner import make_plan
from kektordb.types import Section

FIELDS = ["a", "b", "a.b", "é t"]
TEXTS = ["", "red", "dark red", "10", "1e1", "true", "reñ", "r%d", "zz\U0001f600", "10.0", "\x7f", "RED", "ReÑ"]
NUMBERS = [0, -0.0, 1, 10, 10.0, 2.5, -3, 2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, -(2**63), 2**63 - 1, 2**63]
NUMBERS += [2**64 - 1, 1e300, -1e300, 5e-324, 9007199254740992.0]
SCALARS = st.sampled_from([*TEXTS, *NUMBERS, True, False, None])
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2),
    max_leaves=4,
)
ROWS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)
# What happens to one of 70 slots: new metadata for the old, or none. Few slots, so that most events meet others.
EVENTS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 62, 63, 64, 69]), ROWS | st.none()), max_size=30)

CONSTANTS = st.sampled_from([value_of(text) for text in [*TEXTS, "TRUE", "-3", "2.5", "Inf", "-inf", "abc"]]) | (
    st.sampled_from([value_of_python(number) for number in [*NUMBERS, 10**30, -(10**300) - 1, 2**64, 0.1]])
)
PATTERNS = st.sampled_from(
    ["%", "r%", "%d", "%r%", "_ed", "re_", "", "r\\%d", "%_", "__", "dark%d", "%\U0001f600", "zz_", "R_Ñ", "%RED"]
)
ORDERABLE = CONSTANTS.filter(lambda value: value.flag is None)
CONDITIONS = st.one_of(
    st.builds(ast.Compare, st.sampled_from(FIELDS), st.sampled_from(["=", "!="]), CONSTANTS),
    st.builds(ast.Compare, st.sampled_from(FIELDS), st.sampled_from(["<", "<=", ">", ">="]), ORDERABLE),
    st.builds(ast.Between, st.sampled_from(FIELDS), ORDERABLE, ORDERABLE),
    st.builds(ast.In, st.sampled_from(FIELDS), st.lists(CONSTANTS, max_size=12).map(tuple)),
    st.builds(ast.Like, st.sampled_from(FIELDS), PATTERNS.map(value_of), st.booleans()),
    st.builds(ast.Exists, st.sampled_from([*FIELDS, "missing"])),
    st.builds(ast.IsNull, st.sampled_from([*FIELDS, "missing"])),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.builds(ast.Not, inner)
        | st.builds(ast.And, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(ast.Or, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=5,
)


def read_back(sections: Iterable[Section] = (), step: int = 7) -> Sections:
    return Sections(sections, step, prefix="columns/")


def apply(columns: Columns, rows: dict[int, dict[str, Any]], events: list[tuple[int, dict[str, Any] | None]]) -> None:
    for slot, metadata in events:
        if slot in rows:
            columns.remove(slot, rows.pop(slot))
        if metadata is not None:
            columns.add(slot, metadata)
            rows[slot] = metadata


def assert_same(columns: Columns, rows: dict[int, dict[str, Any]], node: ast.Node) -> None:
    alive = Bitmap.from_slots(rows, 70)
    found = make_plan(node).run(columns, 70)
    found.iand(alive)

    assert set(found.slots()) == filter_rows(node, rows)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.lists(FILTERS, min_size=1, max_size=4), st.sampled_from([1, 2, 5, 4096]))
def test_filters_match_as_a_walk_over_all_rows(
    events: list[tuple[int, dict[str, Any] | None]], filters: list[ast.Node], merge_at: int
) -> None:
    columns, rows = Columns(merge_at), {}

    apply(columns, rows, events)

    for node in filters:
        assert_same(columns, rows, node)


@settings(max_examples=80, deadline=None)
@given(EVENTS, EVENTS, FILTERS, st.sampled_from([1, 3, 4096]))
def test_a_frozen_view_is_not_moved_by_later_writes(
    before: list[tuple[int, dict[str, Any] | None]],
    after: list[tuple[int, dict[str, Any] | None]],
    node: ast.Node,
    merge_at: int,
) -> None:
    columns, rows = Columns(merge_at), {}
    apply(columns, rows, before)
    frozen_rows = dict(rows)

    sections = columns.freeze()
    apply(columns, rows, after)

    loaded = Columns(merge_at)
    loaded.load(read_back(sections), 70)
    assert_same(loaded, frozen_rows, node)
    assert_same(columns, rows, node)
    apply(loaded, frozen_rows, after)
    assert_same(loaded, frozen_rows, node)
    assert loaded.fields() == columns.fields()


@settings(max_examples=60, deadline=None)
@given(EVENTS, EVENTS, st.sets(st.sampled_from([0, 1, 2, 62, 63, 64, 69])), FILTERS, st.sampled_from([2, 4096]))
def test_rebuild_forgets_the_dead_and_nothing_else(
    before: list[tuple[int, dict[str, Any] | None]],
    after: list[tuple[int, dict[str, Any] | None]],
    dead: set[int],
    node: ast.Node,
    merge_at: int,
) -> None:
    columns, rows = Columns(merge_at), {}
    apply(columns, rows, before)
    rows = {slot: metadata for slot, metadata in rows.items() if slot not in dead}

    columns.rebuild(Bitmap.from_slots(rows, 70))

    assert_same(columns, rows, node)
    fresh = Columns()
    apply(fresh, {}, list(rows.items()))
    assert columns.fields() == fresh.fields()
    apply(columns, rows, after)
    assert_same(columns, rows, node)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ROWS | st.none(), max_size=8), max_size=6), st.sampled_from([1, 2, 5, 16, 4096]))
def test_many_rows_at_once_are_those_one_by_one(batches: list[list[dict[str, Any] | None]], merge_at: int) -> None:
    many, single, slot = Columns(merge_at), Columns(merge_at), 0

    for batch in batches:
        many.add_many(slot, [b"" if row is None else encode_metadata(row) for row in batch])
        for row in batch:
            single.add(slot, row or {})
            slot += 1

    assert many.n_slots == single.n_slots
    assert read_back(many.freeze()).data == read_back(single.freeze()).data


@pytest.mark.parametrize("merge_at", [16, 64, 4096])
def test_merges_beside_change_no_answer_at_any_moment(merge_at: int) -> None:
    generator = random.Random(merge_at)
    columns, rows = Columns(merge_at), dict[int, dict[str, Any]]()
    nodes = [
        ast.Compare("n", "<", value_of("40")),
        ast.Compare("t", "=", value_of("t3")),
        ast.Like("t", value_of("t1%")),
        ast.Compare("b", "=", value_of_python(True)),
        ast.Exists("l"),
    ]

    def check() -> None:
        for node in nodes:
            found = make_plan(node).run(columns, 3000)
            found.iand(Bitmap.from_slots(rows, 3000))
            assert set(found.slots()) == filter_rows(node, rows)

    def metadata() -> dict[str, Any]:
        row: dict[str, Any] = {"n": generator.randrange(100), "t": f"t{generator.randrange(30)}", "b": True}
        return row | generator.choice([{}, {"b": False}, {"l": ["x", 1]}, {"n": 2**60 + 1}])

    for start in range(0, 3000, 50):
        batch = [metadata() for _ in range(50)]
        columns.add_many(start, [encode_metadata(row) for row in batch])
        rows |= dict(enumerate(batch, start))
        if start % 250 == 0:
            check()
        columns.merge_beside()
        if start % 500 == 0:
            check()  # the new base is ready and not in use
            sections = columns.freeze()
            loaded = Columns(merge_at)
            loaded.load(read_back(sections, 1 << 20), 3000)
            assert loaded.equal("b", (True,)) == columns.equal("b", (True,))
        for slot in generator.sample(sorted(rows), 3):
            columns.remove(slot, rows.pop(slot))
        if start == 1500:
            columns.rebuild(Bitmap.from_slots(rows, 3000))
    check()


def test_a_merge_beside_comes_before_one_in_place() -> None:
    """Else it would be done under the lock that searches wait for."""
    columns, sizes = Columns(4096), []
    for start in range(0, 40_000, 200):
        columns.merge_beside()
        columns.add_many(start, [encode_metadata({"n": start + i}) for i in range(200)])
        sizes.append({s.name: s.n_bytes for s in columns.freeze()}["columns/0/numbers.delta"] // 16)

    merges = [before for before, after in itertools.pairwise(sizes) if after < before]
    assert len(merges) > 8
    assert max(sizes) < 4096
    # What is merged is gone at the beginning of a batch, not somewhere within it.
    assert all(size % 200 == 0 for size in sizes)


@pytest.mark.parametrize("merge_at", [1, 100_000])
def test_a_large_state_of_not_merged_changes_comes_back_and_grows(merge_at: int) -> None:
    columns = Columns(100_000)
    columns.add_many(0, [encode_metadata({"n": i, "t": f"t{i % 7}"}) for i in range(40_000)])
    loaded = Columns(merge_at)
    loaded.load(read_back(columns.freeze(), 1 << 20), 40_000)

    loaded.add_many(40_000, [encode_metadata({"n": i, "t": f"t{i % 7}"}) for i in range(40_000, 60_000)])

    assert loaded.range("n", 100, 50_000, True, False) == 49_900
    assert loaded.equal("t", ("t3",)) == len(range(3, 60_000, 7))
    loaded.rebuild(Bitmap.from_slots(range(0, 60_000, 2), 60_000))
    assert loaded.range("n", 100, 50_000, True, False) == 24_950


def test_encoded_rows_of_others_are_left_to_the_decoder() -> None:
    columns = Columns()

    columns.add_many(0, [b"\x81\xa1a\xca\x3f\x80\x00\x00", b"", b"\x80", b"\xde\x00\x01\xd9\x01a\xcc\x01"])

    rows = Bitmap(4)
    columns.equal("a", (1,), rows)
    assert list(rows.slots()) == [0, 3]
    for data in (b"\x90", b"\x81", b"\x81\xa1\xff\x01", b"\x81\x01\x02"):
        with pytest.raises(MetadataError):
            columns.add_many(4, [data])
    with pytest.raises(ValueError, match="out of range"):
        columns.add_many(-1, [])


def test_fields_that_look_alike_are_told_apart() -> None:
    """The same keys in the same places, of other objects."""
    data: list[dict[str, Any]] = [{"a": {"b": 1}, "b": 2}, {"a": {"c": 1}, "b": 3}, {"b": {"b": 1}, "a": {"b": 4}}]
    data += [{"a.b": 5}, {"a": {"b": {"b": 6}}}, {"a": []}, {"a": [{"b": 7}, 8]}]
    many, single = Columns(), Columns()
    many.add_many(0, [encode_metadata(row) for row in data])
    for slot, row in enumerate(data):
        single.add(slot, row)

    assert read_back(many.freeze()).data == read_back(single.freeze()).data
    many.rebuild(Bitmap.from_slots([3], 7))
    many.add_many(7, [encode_metadata(row) for row in data])
    assert many.equal("a.b", (5,)) == 2
    assert many.equal("a.b", (1,)) == 1


@given(EVENTS, st.sampled_from([1, 4096]))
def test_removing_all_leaves_nothing(events: list[tuple[int, dict[str, Any] | None]], merge_at: int) -> None:
    columns, rows = Columns(merge_at), {}
    apply(columns, rows, events)

    apply(columns, rows, [(slot, None) for slot in list(rows)])

    assert columns.fields() == []
    for field in FIELDS:
        found = Bitmap(70)
        columns.present(field, found)
        assert found.is_empty()


@given(st.lists(st.sampled_from(NUMBERS), max_size=30), CONSTANTS, CONSTANTS, st.booleans(), st.booleans())
def test_number_ranges_are_exact(
    numbers: list[int | float], low: ast.Value, high: ast.Value, has_low: bool, has_high: bool
) -> None:
    columns = Columns(8)
    for slot, number in enumerate(numbers):
        columns.add(slot, {"n": number})
    rows = Bitmap(len(numbers))

    n = columns.range("n", low.number, high.number, has_low, has_high, rows)

    wanted = [
        slot
        for slot, number in enumerate(numbers)
        if (low.number is None or is_ordered(number, ">=" if has_low else ">", low.number))
        and (high.number is None or is_ordered(number, "<=" if has_high else "<", high.number))
    ]
    assert list(rows.slots()) == wanted
    assert n == len(wanted)
    assert columns.range("n", low.number, high.number, has_low, has_high) == n


def test_integers_beyond_floats_are_told_apart() -> None:
    columns = Columns()
    ids = [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**64 - 1, 2**64 - 2, -(2**63), -(2**63) + 1]
    for slot, number in enumerate(ids):
        columns.add(slot, {"id": number})

    for slot, number in enumerate(ids):
        rows = Bitmap(len(ids))
        columns.equal("id", (number,), rows)
        assert list(rows.slots()) == [slot]


def test_types_are_not_mixed() -> None:
    columns = Columns()
    for slot, value in enumerate([1, True, "1", 1.0, "true", None, "null", False, 0]):
        columns.add(slot, {"v": value})

    def ask(*values: str | bool | int | float | None) -> list[int]:
        rows = Bitmap(9)
        columns.equal("v", values, rows)
        return list(rows.slots())

    assert ask(1) == [0, 3]
    assert ask(True) == [1]
    assert ask("1") == [2]
    assert ask(None) == [5]
    assert ask(False) == [7]
    assert ask(0, "true") == [4, 8]
    assert ask(math.inf, -math.inf, 10**400, "\ud800") == []


def test_long_value_lists_equal_many_single_questions() -> None:
    generator = random.Random(5)
    columns, rows = Columns(64), {}
    for slot in range(500):
        rows[slot] = {"v": generator.choice([generator.randrange(100), f"t{generator.randrange(100)}", True, None])}
        columns.add(slot, rows[slot])
    wanted = tuple(generator.sample([*range(120), *[f"t{i}" for i in range(120)], None, True, 3, 3], 150))

    found = Bitmap(500)
    columns.equal("v", wanted, found)

    keys = {(type(value), value) for value in wanted}
    assert set(found.slots()) == {slot for slot, row in rows.items() if (type(row["v"]), row["v"]) in keys}


def test_many_texts_are_found_by_prefix_range_and_pattern_while_more_come() -> None:
    generator = random.Random(6)
    columns, rows = Columns(), {}

    def ask(node: ast.Node) -> set[int]:
        return set(make_plan(node).run(columns, 6000).slots())

    for slot in range(6000):
        rows[slot] = {"t": "".join(generator.choices("abcé\U0001f600", k=generator.randrange(1, 9)))}
        columns.add(slot, rows[slot])
        if slot % 1499 == 0:
            for node in (
                ast.Like("t", value_of("ab%")),
                ast.Like("t", value_of("%é_")),
                ast.Like("t", value_of("a%b_%c")),
                ast.Like("t", value_of("A%b_%C"), True),
                ast.Like("t", value_of("%É_"), True),
                ast.Between("t", value_of("b"), value_of("bz")),
                ast.Compare("t", ">", value_of("é")),
            ):
                assert ask(node) == filter_rows(node, rows)


def test_every_letter_of_unicode_is_found_in_either_case() -> None:
    """Ⱥ takes two bytes and its lower case three; K (Kelvin) three and one; İ becomes i and a dot above."""
    letters = [chr(code) for code in range(1, 0x11000) if not 0xD800 <= code < 0xE000 and chr(code).isalpha()]
    letters += [chr(code) for code in range(0x1E900, 0x1E944)]
    columns = Columns()
    for slot, letter in enumerate(letters):
        columns.add(slot, {"t": f"<{letter}{letter.swapcase()}>"})

    for letter in ["a", "A", "ß", "É", "é", "Ⱥ", "ⱥ", "K", "k", "İ", "Σ", "ς", "я", "\U0001e900", "\U0001e922"]:
        node = ast.Like("t", value_of(f"_{letter}%"), True)
        found = set(make_plan(node).run(columns, len(letters)).slots())
        assert found
        assert found == {slot for slot, one in enumerate(letters) if lower(one) == lower(letter)}, letter


def test_a_greek_word_is_found_in_either_case_though_its_last_letter_has_two_lower_cases() -> None:
    columns = Columns()
    for slot, text in enumerate(("Οδυσσεύς", "ΟΔΥΣΣΕΎΣ", "οδυσσεύσ", "ΟΔΥΣΣΕΎ")):
        columns.add(slot, {"t": text})
    for pattern in ("οδυσσεύς", "ΟΔΥΣΣΕΎΣ", "%ΕΎΣ", "%ύς"):
        rows = make_plan(ast.Like("t", value_of(pattern), True)).run(columns, 4)
        assert list(rows.slots()) == [0, 1, 2], pattern


def test_estimates_are_exact_for_single_values_and_close_for_patterns() -> None:
    columns = Columns(100)
    for slot in range(10_000):
        columns.add(slot, {"n": slot, "t": f"name-{slot}", "c": "xyz"[slot % 3]})

    assert columns.equal("n", (5, 7, 20_000)) == 2
    assert columns.equal("c", ("x",)) == 3334
    assert columns.range("n", 1000, 2000, True, False) == 1000
    assert columns.present("c") == 10_000
    assert columns.like("t", "name-12%") == 111
    assert 60 <= columns.ilike("t", "NAME-12%") <= 200
    assert 500 <= columns.like("t", "%7") <= 2000
    assert 4000 <= columns.range("t", "name-5", None, True, True) <= 6500
    assert columns.equal("missing", (1,)) == 0


def test_three_fields_take_less_than_thirty_bytes_a_row() -> None:
    generator = random.Random(7)
    columns = Columns()
    for slot in range(50_000):
        columns.add(
            slot, {"category": f"c{slot % 20}", "price": generator.random(), "stock": generator.randrange(10**6)}
        )

    # 28 for the entries; the deltas of a base this small may hold 4,096 entries of 16 bytes each.
    assert columns.memory_bytes() / 50_000 < 28.2 + 3 * 4096 * 16 / 50_000
    assert columns.memory_bytes() > 28 * 40_000


def test_fields_are_named_while_some_item_has_them() -> None:
    columns = Columns()
    columns.add(0, {"a": {"b": {"c": 1}}, "l": [], "o": {}, "x": [[1]], "d": [5, 5]})
    assert columns.fields() == ["a", "a.b", "a.b.c", "d", "l", "o", "x"]
    assert columns.n_slots == 1
    version = columns.version

    columns.remove(0, {"a": {"b": {"c": 1}}, "l": [], "o": {}, "x": [[1]], "d": [5, 5]})

    assert columns.fields() == []
    assert columns.version > version


def test_deep_nesting_is_indexed_down_to_a_limit_and_never_overflows_the_stack() -> None:
    metadata: dict[str, Any] = {"leaf": 1}
    for _ in range(5000):
        metadata = {"k": metadata}
    columns = Columns()

    columns.add(0, metadata)
    columns.remove(0, metadata)

    assert columns.fields() == []


def test_bitmaps_that_are_too_small_are_refused() -> None:
    columns = Columns()
    columns.add(99, {"a": 1})

    with pytest.raises(ValueError, match="at least 100 bits, got 99"):
        columns.equal("a", (1,), Bitmap(99))


@pytest.mark.parametrize("number", [math.nan, math.inf, 2**64 + 1, -(2**63) - 1])
def test_numbers_that_metadata_cannot_hold_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        Columns().add(0, {"a": number})


def test_matching_adds_to_bits_that_are_set() -> None:
    columns = Columns()
    columns.add(0, {"a": 1})
    columns.add(1, {"a": 2})
    columns.remove(1, {"a": 2})
    rows = Bitmap.from_slots([1], 2)

    columns.range("a", 0, 5, True, True, rows)

    assert list(rows.slots()) == [0, 1]


def sections_of(metadata: list[dict[str, Any]], merge_at: int) -> dict[str, bytes]:
    columns = Columns(merge_at)
    for slot, one in enumerate(metadata):
        columns.add(slot, one)
    return read_back(columns.freeze()).data


def test_damaged_sections_are_named_errors_and_never_wrong_memory() -> None:
    """Each byte of each section of a small state is changed in turn; loading and asking must not leave the arrays."""
    metadata: list[dict[str, Any]] = [
        {"a": "x", "n": 1, "b": True},
        {"a": "", "n": 2.5, "b": None},
        {"a": ["y", "x"], "n": 2**63 + 1},
        {"a": {}, "n": -7},
    ]
    for merge_at in (1, 100):
        data = sections_of(metadata, merge_at)
        refused = 0
        for name, content in data.items():
            for at in range(len(content)):
                reader = read_back()
                reader.data = {**data, name: content[:at] + bytes([content[at] ^ 0x84]) + content[at + 1 :]}
                columns = Columns(merge_at)
                try:
                    columns.load(reader, 4)
                except CorruptSnapshot:
                    refused += 1
                    continue
                for field in columns.fields():
                    rows = Bitmap(4)
                    columns.present(field, rows)
                    columns.like(field, "%x", rows)
                    columns.ilike(field, "%X", rows)
                    assert rows.count() <= 4
        assert refused > 50


def test_sections_that_lack_their_head_are_an_empty_state_and_a_wrong_head_is_damage() -> None:
    columns = Columns()
    columns.load(read_back(), 5)
    assert columns.n_slots == 5
    assert columns.fields() == []

    for head in (b"{}x", b"[1]", json.dumps([{"name": "a", "texts": 1, "live": {"odd": 1}}]).encode()):
        reader = read_back()
        reader.data = {"columns/fields": head}
        with pytest.raises(CorruptSnapshot):
            columns.load(reader, 5)


def test_the_reference_reads_lists_and_nested_objects() -> None:
    metadata = {"a": {"b": [1, "x", None, [2], {"c": 3}]}, "a.b": 4}

    assert values(metadata, "a.b") == [1, "x", 4]
    assert values(metadata, "a") == []


def test_a_part_of_an_entry_in_a_delta_is_refused() -> None:
    """Found by the fuzzer: it was copied behind the end of an array."""
    columns = Columns()
    for slot in range(3):
        columns.add(slot, {"a": slot, "b": "text"})
    whole = read_back(columns.freeze())
    names = [name for name in whole.data if name.endswith(".delta") and whole.data[name]]
    assert names
    for name in names:
        damaged = Sections(prefix="columns/", **{**whole.data, name: bytes(whole.data[name]) + b"1234567"})
        with pytest.raises(CorruptSnapshot, match="part of an entry"):
            Columns().load(damaged, 70)
