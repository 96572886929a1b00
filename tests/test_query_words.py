"""CONTAINS in filters: which texts match, which words rank, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kektordb
from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb._metadata import MetadataStore, encode_metadata
from kektordb.errors import FilterError
from kektordb.operations import IndexConfig
from kektordb.query import Expression, F, Filter, ast, compile_filter
from kektordb.query.parser import parse
from kektordb.query.planner import make_plan
from kektordb.query.words import split_phrases
from kektordb.text import Analyzer
from kektordb.text.fields import TextFields

ENGLISH = Analyzer("english")
ITEMS: list[dict[str, Any]] = [
    {"t": "Red running shoes for the road", "n": 0},
    {"t": "a red shoe box", "n": 1, "m": {"t": "RUN"}},
    {"t": "running late, shoes red", "n": 2},
    {"t": "State of the art", "n": 3},
    {"t": "the state art", "n": 4},
    {"t": "to be or not to be", "n": 5},
    {"t": "Straße 東京都 größe ½", "n": 6},
    {"t": "a board of 5 x 7 inches", "n": 7},
    {"t": ["first red", "second blue"], "n": 8},
    {"t": 10, "n": 9},
    {"t": "", "n": 10},
    {"n": 11},
]


class Rows:
    """Metadata with columns and texts, as a collection holds them."""

    def __init__(self, items: list[dict[str, Any]], **options: Any) -> None:
        config = IndexConfig(text_language="english", **options)
        self.n = len(items)
        self.columns, stored = Columns(), MetadataStore()
        self.texts = TextFields(config, stored)
        encoded = [encode_metadata(item) for item in items]
        stored.reserve(self.n, sum(map(len, encoded)))
        stored.put_many(0, encoded)
        for slot, (item, counted) in enumerate(zip(items, self.texts.count(encoded), strict=True)):
            self.columns.add(slot, item)
            self.texts.add(slot, counted)

    def ask(self, filter: Filter, params: dict[str, object] | None = None) -> list[int]:
        plan = compile_filter(filter)
        found = list(plan.run(self.columns, self.n, params, self.texts).slots())
        assert plan.explain(self.columns, self.n, params, None, self.texts).actual == len(found)
        assert 0 <= plan.estimate(self.columns, self.n, params, self.texts) <= self.n
        return found


ROWS = Rows(ITEMS)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("CONTAINS(t, 'red shoes')", [0, 1, 2, 8]),
        ("contains (t, 'RED SHOE')", [0, 1, 2, 8]),
        ("CONTAINS(t, red shoes)", [0, 1, 2, 8]),
        ('CONTAINS(t, "red shoes")', [0, 1, 2, 8]),
        ("CONTAINS(`t`, red) AND n < 2", [0, 1]),
        ("CONTAINS_ALL(t, 'red shoes')", [0, 1, 2]),
        ("Contains_All(t, 'the red shoes')", [0, 1, 2]),
        ("CONTAINS_ALL(t, 'red unheard')", []),
        ("CONTAINS(t, 'red unheard')", [0, 1, 2, 8]),
        ("CONTAINS(m.t, running)", [1]),
        ("CONTAINS(missing, red)", []),
        ("NOT CONTAINS(t, red) AND n < 5", [3, 4]),
        ("NOT (CONTAINS(t, red) OR n > 4)", [3, 4]),
        ("CONTAINS(t, board) OR n = 11", [7, 11]),
        ("CONTAINS_ALL(t, 'first blue')", [8]),
        # Phrases.
        ("CONTAINS(t, '\"red shoes\"')", [1]),
        ('CONTAINS(t, "\\"red shoes\\"")', [1]),
        ('CONTAINS(t, board "red shoes")', [1, 7]),
        ('CONTAINS(t, \'box "red shoes" "running late"\')', [1, 2]),
        ("CONTAINS_ALL(t, 'box \"red shoes\"')", [1]),
        ("CONTAINS_ALL(t, 'late \"red shoes\"')", []),
        ("CONTAINS(t, '\"state of the art\"')", [3]),
        ("CONTAINS(t, '\"state art\"')", [4]),
        ("CONTAINS(t, '\"the state\"') AND n > 3", [4]),
        ("NOT CONTAINS(t, '\"state of the art\"') AND n BETWEEN 3 AND 4", [4]),
        ("(CONTAINS(t, '\"red shoes\"') OR CONTAINS(t, '\"of the\"')) AND n < 9", [1, 3]),
        ("CONTAINS(t, '\"running\"')", [0, 2]),
        # A phrase stands in one string of a list.
        ("CONTAINS(t, '\"second blue\"')", [8]),
        ("CONTAINS(t, '\"red second\"')", []),
        ('CONTAINS_ALL(t, \'"first red" "second blue"\')', [8]),
        ("CONTAINS_ALL(t, 'first \"red second\"')", []),
        # Only stop words: none is left to look for, but a phrase of them is one.
        ("CONTAINS(t, 'to be or not')", []),
        ("CONTAINS_ALL(t, 'to be')", []),
        ("CONTAINS(t, '\"to be or not\"')", [5]),
        ('CONTAINS_ALL(t, \'"to be" "of the"\')', []),
        ("CONTAINS_ALL(t, '\"of the\"')", [3]),
        # No words at all.
        ("CONTAINS(t, '')", []),
        ("CONTAINS_ALL(t, '')", []),
        ("CONTAINS(t, '\"\"')", []),
        ('CONTAINS_ALL(t, \'"" " - "\')', []),
        ("CONTAINS_ALL(t, 'red \"\"')", [0, 1, 2, 8]),
        ("CONTAINS(t, '%_ &!')", []),
        ("NOT CONTAINS(t, '')", list(range(12))),
        # Quotation marks that are none.
        ("CONTAINS(t, '5\" x 7\" board')", [7]),
        ("CONTAINS_ALL(t, 'late \"red')", [2]),
        # Beyond ASCII.
        ("CONTAINS(t, 'STRASSE')", [6]),
        ("CONTAINS(t, GRÖSSE)", [6]),
        ("CONTAINS(t, '京都')", [6]),
        ("CONTAINS(t, '\"1 2\"')", [6]),
        ("CONTAINS(t, '½')", [6]),
        ("CONTAINS(t, 10)", []),
        ("CONTAINS(t, true)", []),
        ("t = 10 AND NOT CONTAINS(t, 10)", [9]),
    ],
)
def test_matches(text: str, rows: list[int]) -> None:
    assert ROWS.ask(text) == rows
    assert ROWS.ask(make_expression(parse(text))) == rows


def make_expression(node: ast.Node) -> Expression:
    return Expression(node)


WORDS = ["red", "reds", "blue", "the", "of", "shoe", "box", "ß", "東京"]
QUESTIONS = st.lists(st.sampled_from([*WORDS, '"red shoe"', '"the box"', '"of the"', '"blue"', '"']), max_size=4)
CONDITIONS: st.SearchStrategy[ast.Node] = st.builds(
    lambda words, every: ast.Contains("t", ast.Value(" ".join(words)), every), QUESTIONS, st.booleans()
) | st.integers(0, 60).map(lambda n: ast.Compare("n", "<", ast.Value(str(n), n)))
TREES = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        inner.map(ast.Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda nodes: ast.And(tuple(nodes))),
        st.lists(inner, min_size=1, max_size=3).map(lambda nodes: ast.Or(tuple(nodes))),
    ),
    max_leaves=6,
)


def generated(n: int) -> dict[str, Any]:
    rng = random.Random(n)
    texts: list[Any] = [" ".join(rng.choices(WORDS, k=rng.randint(0, 6))) for _ in range(n % 4)]
    return {"t": texts[0] if len(texts) == 1 else [*texts, 7, None], "n": n}


GENERATED = [generated(n) for n in range(60)]
MANY = Rows(GENERATED)


def is_match(node: ast.Node, item: dict[str, Any]) -> bool:
    """The slow truth: one text after the other, its words as a list."""
    match node:
        case ast.And(operands):
            return all(is_match(operand, item) for operand in operands)
        case ast.Or(operands):
            return any(is_match(operand, item) for operand in operands)
        case ast.Not(operand):
            return not is_match(operand, item)
        case ast.Compare("n", "<", ast.Value(number=limit)):
            return bool(item["n"] < limit)
        case ast.Contains("t", ast.Value(text=words), every):
            single, phrases = split_phrases(words)
            texts = (
                [text for text in item["t"] if isinstance(text, str)] if isinstance(item["t"], list) else [item["t"]]
            )
            terms = [term for text in texts for term in ENGLISH.analyse(text)]
            kept = [list(ENGLISH.iterate(text, True)) for text in texts]
            found = [term in terms for term in ENGLISH.analyse(single)]
            for phrase in phrases:
                parts = list(ENGLISH.iterate(phrase, True))
                if parts:
                    found.append(any(one[at : at + len(parts)] == parts for one in kept for at in range(len(one))))
            return bool(found) and (all if every else any)(found)
    raise AssertionError(node)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_tree_matches_what_reading_each_text_gives(node: ast.Node) -> None:
    wanted = [slot for slot, item in enumerate(GENERATED) if is_match(node, item)]

    found = make_plan(node).run(MANY.columns, MANY.n, None, MANY.texts)

    assert list(found.slots()) == wanted


@settings(max_examples=100, deadline=None)
@given(QUESTIONS, st.booleans())
def test_estimates_of_one_condition_are_no_less_than_what_is_found(words: list[str], every: bool) -> None:
    plan = make_plan(ast.Contains("t", ast.Value(" ".join(words)), every))

    found = plan.run(MANY.columns, MANY.n, None, MANY.texts).count()

    assert found <= plan.estimate(MANY.columns, MANY.n, None, MANY.texts) <= MANY.n


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (F("t").contains("red shoes"), "CONTAINS(t, 'red shoes')"),
        (F("t").contains("red shoes", all=True), "CONTAINS_ALL(t, 'red shoes')"),
        (~F("m.t").contains('"it\'s"'), "NOT CONTAINS(m.t, '\"it''s\"')"),
        (F("a b").contains("x") & (F("n") < 5), "CONTAINS(a b, x) AND n < 5"),
        (F("t").contains(ast.Param("q")), "CONTAINS(t, $q)"),  # type: ignore[arg-type]
        (F("t").contains("red 'x'\""), "CONTAINS(t, red 'x'\")"),
    ],
)
def test_built_and_written_conditions_are_equal(built: Expression, text: str) -> None:
    assert built.node == parse(text)
    assert hash(built.node) == hash(parse(text))


def test_all_and_any_are_not_the_same_condition() -> None:
    one, other = F("t").contains("red shoes"), F("t").contains("red shoes", all=True)

    assert one.node != other.node
    assert ROWS.ask(one) != ROWS.ask(other)
    assert ROWS.ask(one | other) == ROWS.ask(one)
    assert ROWS.ask(one & other) == ROWS.ask(other)


@pytest.mark.parametrize("words", [None, 5, b"red", ["red"]])
def test_the_builder_takes_texts_only(words: Any) -> None:
    with pytest.raises(FilterError, match="expected words"):
        F("t").contains(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONTAINS_ALL(t)", "expected ',' and the words to look for"),
        ("CONTAINS(t, 'red' shoes)", "expected the '\\)' for the"),
        ("CONTAINS(t, 'red", "never closed"),
        ("CONTAINS(, red)", "expected the name of a field"),
        ("CONTAINS t", "expected an operator"),
        ("CONTAINS(t, red) CONTAINS(t, blue)", "expected AND, OR"),
        ("CONTAINS_SOME(t, red)", "expected an operator"),
    ],
)
def test_what_does_not_parse(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compile_filter(text)


def test_fields_may_be_called_like_the_conditions() -> None:
    assert parse("contains = 1") == ast.Compare("contains", "=", ast.Value("1", 1))
    assert parse("contains_all IN (1)") == ast.In("contains_all", (ast.Value("1", 1),))
    assert parse("CONTAINS(contains_all, x)") == ast.Contains("contains_all", ast.Value("x"))


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "value",
    [
        "') OR n >= 0 OR CONTAINS(t, '",
        "$q",
        "red') OR (n > 0",
        'x" OR "red" "',
        "t, red) OR n > 0 --",
        "\\",
        "\x00",
        "\ud800",
    ],
)
def test_parameters_are_words_and_never_filter_text(value: str) -> None:
    wanted = [n for n, item in enumerate(ITEMS) if set(ENGLISH.analyse(value)) & set(analysed(item))]

    assert ROWS.ask("CONTAINS(t, $q)", {"q": value}) == wanted


def analysed(item: dict[str, Any]) -> list[str]:
    value = item.get("t")
    return ENGLISH.analyse(" ".join(value) if isinstance(value, list) else value if isinstance(value, str) else "")


def test_parameters_and_constants_mean_the_same() -> None:
    for words in ("red shoes", '"red shoes"', "", "the", "10"):
        for call in ("CONTAINS", "CONTAINS_ALL"):
            quoted = words.replace("'", "''")
            assert ROWS.ask(f"{call}(t, $q) AND n < $n", {"q": words, "n": 9}) == ROWS.ask(
                f"{call}(t, '{quoted}') AND n < 9"
            )
    assert ROWS.ask("CONTAINS(t, $q)", {"q": 7}) == [7]


@pytest.mark.parametrize(
    ("params", "message"),
    [({}, "no value for the parameter \\$q"), ({"q": None}, "NoneType"), ({"q": ["red"]}, "list")],
)
def test_wrong_parameters_are_errors(params: dict[str, object], message: str) -> None:
    with pytest.raises(FilterError, match=message) as caught:
        ROWS.ask("n < 5 AND CONTAINS(t, $q)", params)

    assert caught.value.position == 22


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "text",
    [
        "n < 5 AND CONTAINS(t, red)",
        "n > 99 AND CONTAINS(t, red)",
        "n < 5 OR NOT contains_all(t, 'red')",
        "CONTAINS(t, '')",
    ],
)
def test_without_analyzer_the_error_says_what_to_do(text: str) -> None:
    plan = compile_filter(text)
    for call in (plan.run, plan.estimate, plan.explain):
        with pytest.raises(FilterError, match='create it with text_language="english"') as caught:
            call(ROWS.columns, ROWS.n)
        assert text[caught.value.position :].lower().startswith("contains")


def test_a_field_that_is_not_searched_is_an_error() -> None:
    chosen = Rows(ITEMS, text_fields=("m.t",))

    assert chosen.ask("CONTAINS(m.t, run)") == [1]
    with pytest.raises(FilterError, match="name 't' in text_fields"):
        chosen.ask("n < 0 AND CONTAINS(t, red)")


def test_texts_are_read_only_where_the_other_conditions_leave_rows() -> None:
    read: list[int] = []

    class Watched(TextFields):
        def strings_of(self, slot: int, field: str) -> list[str]:
            read.append(slot)
            return super().strings_of(slot, field)

    rows = Rows(ITEMS)
    rows.texts.__class__ = Watched
    for text, wanted in (
        ("CONTAINS(t, '\"state of the art\"') AND n >= 4", [4]),
        ("(CONTAINS(t, '\"state of the art\"') OR n = 1) AND n < 4", [3]),
        ("NOT CONTAINS_ALL(t, 'art \"state of\"') AND n = 3", [3]),
        ("CONTAINS(t, 'late \"red shoes\"')", [0, 1]),
        ("CONTAINS(t, '\"to be\"') AND n IN (5, 11)", [5]),
    ):
        read.clear()
        compile_filter(text).run(rows.columns, rows.n, None, rows.texts)
        assert read == wanted, text


# ------------------------------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CONTAINS(t, 'red shoes')", [("t", "red shoes")]),
        ("CONTAINS_ALL(t, '\"red\" shoes')", [("t", '"red" shoes')]),
        ("n < 5 AND (CONTAINS(t, red) AND CONTAINS(m.t, $q))", [("t", "red"), ("m.t", "run")]),
        ("CONTAINS(t, $q) AND CONTAINS(t, $q)", [("t", "run")]),
        ("NOT NOT CONTAINS(t, red)", [("t", "red")]),
        ("NOT (n < 5 OR NOT CONTAINS(t, red))", [("t", "red")]),
        ("n < 5 OR CONTAINS(t, red)", []),
        ("NOT CONTAINS(t, red)", []),
        ("n < 5 AND (CONTAINS(t, red) OR n = 2)", []),
        ("n < 5 AND NOT CONTAINS(t, red)", []),
        ("n < 5", []),
    ],
)
def test_words_that_every_match_has_rank(text: str, words: list[tuple[str, str]]) -> None:
    plan = compile_filter(text)

    assert plan.ranking_words({"q": "run"}) == words
    assert plan.ranks == bool(words)


# --------------------------------------------------------------------------------------------------------- in an index


@pytest.fixture
def index() -> kektordb.Index:
    db = kektordb.open(":memory:")
    made = db.create_index("texts", dim=2, text_language="english")
    made.add_batch([str(n) for n in range(len(ITEMS))], [[n, 1] for n in range(len(ITEMS))], ITEMS)
    return made


def ids(index: kektordb.Index, filter: Filter, params: dict[str, Any] | None = None) -> list[str]:
    return index._collection().matching_ids(filter, params)


def test_kept_matches_follow_every_change_of_the_texts(index: kektordb.Index) -> None:
    asked = "CONTAINS(t, $q)"
    assert ids(index, asked, {"q": "red"}) == ids(index, asked, {"q": "red"}) == ["0", "1", "2", "8"]
    assert ids(index, asked, {"q": "art"}) == ["3", "4"]
    assert ids(index, F("t").contains("red", all=True)) == ["0", "1", "2", "8"]

    index.delete("1")
    index.update_metadata("3", {"t": "red"})
    index.upsert("0", [0, 1], {"t": "green"})

    assert ids(index, asked, {"q": "red"}) == ["2", "3", "8"]
    assert ids(index, F("t").contains("red", all=True)) == ["2", "3", "8"]
    assert ids(index, "NOT CONTAINS(t, red)") == ["4", "5", "6", "7", "9", "10", "11", "0"]


def test_an_index_counts_explains_and_deletes_by_words(index: kektordb.Index) -> None:
    assert index.count("CONTAINS_ALL(t, 'red shoes')") == 3
    assert str(index.explain("CONTAINS_ALL(t, 'red \"shoes\"') AND n < 2")).split("\n") == [
        "AND  (estimated 2 rows, found 2)",
        "  n < 2  (estimated 2 rows, found 2)",
        "  CONTAINS_ALL(t, 'red \"shoes\"')  (estimated 3 rows, found 3)",
    ]
    assert index.delete(filter="CONTAINS(t, 'red')") == 4
    assert ids(index, "CONTAINS(t, 'red board')") == ["7"]


def test_an_index_without_analyzer_refuses() -> None:
    index = kektordb.open(":memory:").create_index("plain", dim=2)
    index.add("a", [0, 1], {"t": "red"})

    for call in (index.count, index.explain, lambda filter: index.search([0, 1], filter=filter)):
        with pytest.raises(FilterError, match="text_language"):
            call("CONTAINS(t, red)")


def test_bitmaps_are_the_callers_own() -> None:
    plan = compile_filter("CONTAINS(t, red)")
    first = plan.run(ROWS.columns, 200, None, ROWS.texts)
    first.invert()

    assert plan.run(ROWS.columns, 200, None, ROWS.texts) == Bitmap.from_slots([0, 1, 2, 8], 200)


# ------------------------------------------------------------------------------------------------ ranked by the filter


def test_words_of_a_filter_rank_and_restrict(index: kektordb.Index) -> None:
    found = index.search(filter="CONTAINS(t, 'red shoes') AND n < 8", k=10)
    asked = index.search(text="red shoes", filter="n < 8", k=10)

    assert found.ids == asked.ids
    assert set(found.ids) == {"0", "1", "2"}
    assert [hit.score for hit in found] == [hit.text_score for hit in asked]


def test_words_rank_in_their_field_only(index: kektordb.Index) -> None:
    index.add("both", [1, 1], {"t": "shoes to run", "m": {"t": "run run"}})

    inside, anywhere = (
        index.search(filter="CONTAINS(m.t, run)"),
        index.search(text="run", filter="CONTAINS_ALL(m.t, run)"),
    )

    assert set(inside.ids) == set(anywhere.ids) == {"1", "both"}
    scores = {hit.id: hit.score for hit in inside}
    more = {hit.id: hit.score for hit in anywhere}
    # In all fields "run" counts once more, and in the field of the filter twice.
    assert more["1"] == pytest.approx(2 * scores["1"])
    assert more["both"] > 2 * scores["both"]


def test_words_and_text_add_up(index: kektordb.Index) -> None:
    one, other = index.search(text="red", k=20), index.search(text="shoes", k=20)
    sums: dict[str, float] = {}
    for hit in [*one, *other]:
        sums[hit.id] = sums.get(hit.id, 0) + hit.score

    found = index.search(text="shoes", filter="CONTAINS(t, red)", k=20)

    assert {hit.id: pytest.approx(hit.score) for hit in found} == {id: sums[id] for id in ("0", "1", "2", "8")}


def test_with_a_vector_both_sides_count_and_the_filter_restricts(index: kektordb.Index) -> None:
    filter = "CONTAINS(t, 'red shoes') AND n < 8"
    near, words = index.search([2, 1], filter=filter, alpha=1.0), index.search([2, 1], filter=filter, alpha=0.0)
    both = index.search([2, 1], filter=filter, alpha=0.5, fusion="rrf")

    assert set(near.ids) == set(words.ids) == set(both.ids) == {"0", "1", "2"}
    assert near.ids == ["2", "1", "0"]
    assert words.ids == index.search(filter=filter).ids
    ranks = {id: 0.5 / (61 + near.ids.index(id)) for id in near.ids}
    text = {hit.id: hit.score for hit in words}
    for hit in both:
        better = sum(score > text[hit.id] for score in text.values())
        assert hit.score == pytest.approx(ranks[hit.id] + 0.5 / (61 + better))


@pytest.mark.parametrize("filter", ["NOT CONTAINS(t, red)", "CONTAINS(t, red) OR n > 5"])
def test_inside_or_and_not_words_do_not_rank(index: kektordb.Index, filter: str) -> None:
    found = index.search([2, 1], filter=filter, k=20)

    assert found.ids == [id for id in index.search([2, 1], k=20).ids if id in ids(index, filter)]
    assert all(hit.text_score is None for hit in found)


def test_parameters_rank_too(index: kektordb.Index) -> None:
    asked = index.search(filter="CONTAINS(t, $q) AND n < $n", params={"q": "running red", "n": 5})

    assert asked.ids == index.search(filter="CONTAINS(t, 'running red') AND n < 5").ids
    assert asked.ids[0] in ("0", "2")


def test_a_phrase_is_analysed_once_however_many_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows([{"t": f"the state of the art {i}"} for i in range(50)])
    asked: list[str] = []
    iterate = Analyzer.iterate

    def noted(self: Analyzer, text: str, keep_stop_words: bool = False) -> Iterator[str]:
        asked.append(text)
        return iterate(self, text, keep_stop_words)

    monkeypatch.setattr(Analyzer, "iterate", noted)
    plan = compile_filter("CONTAINS(t, '\"state of the art\"')")
    found = plan.run(rows.columns, rows.n, None, rows.texts)

    assert found.count() == 50
    assert sum("art" in text and not text[-1].isdigit() for text in asked) < 10
