"""Blobs and StringMap behave as dicts do, and their frozen views as copies."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest
from sections import Sections

from kektordb._strings import Blobs, StringMap, are_plain, utf8_size
from kektordb.errors import CorruptSnapshot

TEXTS = ["a", "ab", "abc", "abcd", "abcdef", "abcdefgh", "abcdefghi", "é" * 9, "日本", "x" * 127, "x" * 128, "y" * 1024]


def contents(blobs: Blobs, n: int) -> dict[int, bytes]:
    return {i: data for i in range(n) if (data := blobs.get_bytes(i)) is not None}


def test_blobs_equal_a_dict_under_random_changes() -> None:
    rng = random.Random(1)
    blobs, model = Blobs(), dict[int, bytes]()

    for _ in range(20_000):
        number = rng.randrange(300)
        if rng.random() < 0.3:
            blobs.remove(number)
            model.pop(number, None)
        else:
            model[number] = rng.randbytes(rng.choice([0, 1, 5, 127, 128, 300]))
            blobs.set(number, model[number])
        if rng.random() < 0.001:
            blobs.compact()
            assert blobs.wasted_bytes == 0

    assert contents(blobs, 400) == model
    live = sum(len(data) + (1 if len(data) < 128 else 2) for data in model.values())
    assert blobs.used_bytes - blobs.wasted_bytes == live


def test_blobs_keep_lengths_of_every_varint_size() -> None:
    blobs = Blobs()
    sizes = [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]

    for number, size in enumerate(sizes):
        blobs.set(number, bytes([number]) * size)

    assert [blobs.get_bytes(i) for i in range(len(sizes))] == [bytes([i]) * size for i, size in enumerate(sizes)]


def test_compaction_waits_for_more_than_half_and_a_mebibyte() -> None:
    blobs = Blobs()
    for number in range(4):
        blobs.set(number, bytes(1 << 20))

    for number in (0, 1):
        blobs.remove(number)
    assert not blobs.compact_if_wasteful()

    blobs.remove(2)
    assert blobs.compact_if_wasteful()
    assert blobs.wasted_bytes == 0
    assert contents(blobs, 9) == {3: bytes(1 << 20)}
    assert blobs.memory_bytes() < 1.1 * (1 << 20)


def test_frozen_view_survives_writes_growth_and_compaction() -> None:
    rng = random.Random(2)
    blobs = Blobs()
    for number in range(1000):
        blobs.set(number, rng.randbytes(50))
    before = contents(blobs, 1000)
    sections = blobs.freeze("x")

    for number in range(900):
        blobs.remove(number)
        blobs.set(number + 5000, rng.randbytes(500))
    blobs.compact()
    for number in range(1000):
        blobs.set(number, b"new")
    taken: list[Sections] = []
    thread = threading.Thread(target=lambda: taken.append(Sections(sections)))
    del blobs
    thread.start()
    thread.join()

    loaded = Blobs()
    loaded.load("x", taken[0], 1000)
    assert contents(loaded, 2000) == before


def test_loaded_blobs_know_their_waste_and_take_new_ones() -> None:
    blobs = Blobs()
    for number in range(100):
        blobs.set(number, b"0123456789")
    for number in range(0, 100, 3):
        blobs.remove(number)
    loaded = Blobs()

    loaded.load("p", Sections(blobs.freeze("p")), 150)
    loaded.set(149, b"tail")

    assert loaded.wasted_bytes == blobs.wasted_bytes > 0
    assert contents(loaded, 200) == contents(blobs, 200) | {149: b"tail"}


def test_empty_blobs_come_back_empty() -> None:
    loaded = Blobs()

    loaded.load("p", Sections(Blobs().freeze("p")), 0)

    assert loaded.used_bytes == 0
    assert loaded.get_bytes(0) is None


def damage_offset(data: dict[str, bytes], offset: int) -> None:
    data["p/start"] = struct.pack("<Q", offset) + data["p/start"][8:]


DAMAGES: dict[str, Callable[[dict[str, bytes]], None]] = {
    "offset at the end": lambda d: damage_offset(d, len(d["p/arena"])),
    "offset far outside": lambda d: damage_offset(d, 2**64 - 2),
    "too many offsets": lambda d: d.update({"p/start": d["p/start"] + bytes(8)}),
    "half an offset": lambda d: d.update({"p/start": d["p/start"][:-3]}),
    "arena cut": lambda d: d.update({"p/arena": d["p/arena"][:-1]}),
    "no arena": lambda d: d.update({"p/arena": b""}),
    "length too large": lambda d: d.update({"p/arena": b"\x7f" + d["p/arena"][1:]}),
    "endless length": lambda d: d.update({"p/arena": b"\xff" * len(d["p/arena"])}),
    "length runs out of the arena": lambda d: d.update({"p/arena": b"\xff" * 3, "p/start": bytes(8)}),
    "strings that share bytes": lambda d: d.update({"p/start": bytes(32), "p/arena": d["p/arena"][:11]}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_sections_are_refused_and_leave_the_blobs_alone(name: str) -> None:
    source, target = Blobs(), Blobs()
    for number in range(4):
        source.set(number, b"0123456789")
    target.set(1, b"mine")
    sections = Sections(source.freeze("p"))
    DAMAGES[name](sections.data)

    with pytest.raises(CorruptSnapshot):
        target.load("p", sections, 4)

    assert contents(target, 10) == {1: b"mine"}


def test_random_damage_never_reads_outside() -> None:
    rng = random.Random(3)
    source = StringMap()
    for number, text in enumerate(TEXTS):
        source.add_str(number, text)
    clean = Sections(source.freeze("p")).data

    for _ in range(2000):
        sections = Sections([])
        sections.data = dict(clean)
        name = rng.choice(["p/arena", "p/start"])
        data = bytearray(clean[name])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        sections.data[name] = bytes(data)
        loaded = StringMap()
        try:
            loaded.load("p", sections, len(TEXTS))
        except CorruptSnapshot:
            continue
        for number in range(len(TEXTS)):
            found = loaded.get_str(number)
            assert found is None or loaded.find_str(found) == number


@pytest.mark.parametrize("seed", [4, 5])
def test_string_map_equals_two_dicts_under_random_changes(seed: int) -> None:
    rng = random.Random(seed)
    strings, by_text, by_number = StringMap(), dict[str, int](), dict[int, str]()

    for step in range(30_000):
        text = f"item-{rng.randrange(2000)}" * rng.randrange(1, 4)
        assert strings.find_str(text) == by_text.get(text, -1)
        if text in by_text and rng.random() < 0.8:
            number = by_text.pop(text)
            del by_number[number]
            strings.remove_number(number)
        elif text not in by_text:
            number = next(n for n in iter(lambda: rng.randrange(8000), None) if n not in by_number)
            by_text[text], by_number[number] = number, text
            strings.add_str(number, text)
        if step % 5000 == 4999:
            strings.compact_if_wasteful()
            assert [strings.get_str(n) for n in range(8000)] == [by_number.get(n) for n in range(8000)]

    assert len(strings) == strings.size == len(by_text)


def test_adding_and_removing_for_ever_leaves_the_memory_alone() -> None:
    strings = StringMap()
    for number in range(500):
        strings.add_str(number, f"stays-{number}")
    before = strings.memory_bytes()

    for turn in range(300_000):
        strings.add_str(500, f"turn-{turn}")
        strings.remove_number(500)
        strings.compact_if_wasteful()

    assert strings.memory_bytes() < before + (2 << 20)
    assert strings.find_many([f"stays-{n}" for n in range(500)]).tolist() == list(range(500))


def test_texts_of_all_lengths_are_found_and_their_prefixes_are_not() -> None:
    strings = StringMap()

    for number, text in enumerate(TEXTS):
        strings.add_str(number, text)

    assert strings.find_many([*TEXTS, "nope"]).tolist() == [*range(len(TEXTS)), 0xFFFFFFFF]
    assert [strings.find_str(text[:-1]) for text in TEXTS[7:]] == [-1] * 2 + [-1, 9, -1]
    assert strings.get_many(np.arange(13, dtype=np.uint32)) == [*TEXTS, None]


def test_lone_surrogate_is_not_found_and_not_added() -> None:
    strings = StringMap()
    strings.add_str(0, "a")

    assert strings.find_str("\ud800") == -1
    assert strings.find_many(["\ud800", "a"]).tolist() == [0xFFFFFFFF, 0]
    with pytest.raises(UnicodeEncodeError):
        strings.add_str(1, "\ud800")
    assert len(strings) == 1


def test_taken_number_and_text_are_refused() -> None:
    strings = StringMap()
    strings.add_str(3, "a")

    for number, text in [(3, "b"), (4, "a"), (0xFFFFFFFF, "c")]:
        with pytest.raises(ValueError, match="taken"):
            strings.add_str(number, text)

    assert (strings.find_str("a"), strings.find_str("b"), len(strings)) == (3, -1, 1)


def random_texts(rng: random.Random, n: int) -> list[str]:
    return [rng.choice(["item", "é", "日本", "x" * 130]) + str(i) for i in rng.sample(range(10 * n), n)]


@pytest.mark.parametrize("seed", [6, 7])
def test_many_texts_at_once_are_those_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    many, single, first = StringMap(), StringMap(), 0
    for _ in range(60):
        texts = random_texts(rng, rng.randrange(200))
        expected = [number for text in texts if (number := single.find_str(text)) >= 0]
        assert many.find_first(texts) == next((i for i, t in enumerate(texts) if single.find_str(t) >= 0), -1)
        assert many.remove_many(texts) == expected
        for number in expected:
            single.remove_number(number)
        many.add_many(first, texts)
        for number, text in enumerate(texts, first):
            single.add_str(number, text)
        first += len(texts)

    assert len(many) == len(single)
    assert Sections(many.freeze("ids")).data == Sections(single.freeze("ids")).data
    kept = [text for number in range(first) if (text := single.get_str(number)) is not None]
    assert many.find_many(kept).tolist() == [single.find_str(text) for text in kept]


@pytest.mark.parametrize(
    ("first", "texts"), [(3, ["n", "b"]), (10, ["n", "a"]), (10, ["n", "n"]), (10, ["n", "\ud800"])]
)
def test_many_texts_of_which_one_cannot_be_added_are_refused_together(first: int, texts: list[str]) -> None:
    strings = StringMap()
    strings.add_str(4, "a")

    with pytest.raises(ValueError, match=r"taken|surrogate"):
        strings.add_many(first, texts)

    assert len(strings) == 1
    assert [strings.find_str(text) for text in ("a", "b", "n")] == [4, -1, -1]


def test_a_table_made_beside_knows_all_texts_whatever_changes_before_it_is_taken() -> None:
    rng = random.Random(8)
    strings, model = StringMap(), dict[str, int]()
    for number in range(20_000):
        text = f"t{number}"
        if rng.random() < 0.1:
            strings.prepare_more(rng.randrange(1, 5000))
        if rng.random() < 0.2 and model:
            gone = next(iter(model))
            strings.remove_number(model.pop(gone))
        if rng.random() < 0.5:
            strings.add_str(number, text)
        else:
            strings.add_many(number, [text])
        model[text] = number

    assert strings.find_many(list(model)).tolist() == list(model.values())
    assert len(strings) == len(model)


def test_room_that_was_made_is_room_for_all_of_it() -> None:
    strings = StringMap()
    assert not strings.has_room(100, 700)

    strings.reserve_more(100, 700)
    size = strings.memory_bytes()

    assert strings.has_room(100, 700)
    strings.add_many(0, [f"text-{i:02}" for i in range(100)])
    assert strings.memory_bytes() == size
    assert not strings.has_room(10_000, 0)


def test_plain_texts_are_told_apart_and_sizes_are_those_of_utf8() -> None:
    class Text(str):
        __slots__ = ()

    assert are_plain(["a", "x" * 9], 9)
    assert are_plain([], 9)
    for other in ("", "x" * 10, "é", Text("a"), 5, None, b"a"):
        assert not are_plain(["a", other], 9)  # type: ignore[list-item]
    assert utf8_size(TEXTS) == sum(len(text.encode()) for text in TEXTS)


def test_string_map_comes_back_from_its_sections() -> None:
    rng = random.Random(6)
    strings = StringMap()
    for number in rng.sample(range(5000), 3000):
        strings.add_str(number, f"id-{number}-ü")
    for number in range(0, 5000, 7):
        strings.remove_number(number)
    loaded = StringMap()

    loaded.load("ids", Sections(strings.freeze("ids")), 5000)
    loaded.add_str(5001, "more")

    assert len(loaded) == len(strings) + 1
    for number in range(5000):
        text = strings.get_str(number)
        assert loaded.get_str(number) == text
        assert text is None or loaded.find_str(text) == number
    assert loaded.find_str("id-0-ü") == -1


@pytest.mark.parametrize(
    ("blobs", "message"),
    [([b"a", b"a"], "equal"), ([b""], "expected 1 to"), ([b"x" * 1025], "expected 1 to"), ([b"\xff\xfe"], "UTF-8")],
)
def test_sections_that_are_no_string_map_are_refused(blobs: list[bytes], message: str) -> None:
    source = Blobs()
    for number, data in enumerate(blobs):
        source.set(number, data)

    with pytest.raises(CorruptSnapshot, match=message):
        StringMap().load("p", Sections(source.freeze("p")), 9)


def test_an_id_of_eleven_bytes_takes_at_most_27_bytes() -> None:
    strings = StringMap()
    n = 200_000

    for number in range(n):
        strings.add_str(number, f"item-{number:06d}")

    assert strings.memory_bytes() / n <= 27
    assert strings.find_str("item-123456") == 123456
