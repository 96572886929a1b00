"""Search by words, and by words and vectors: every score against a truth that reads every document."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import filter_rows

import kektordb
from kektordb.errors import ConfigError, FilterError, VectorError
from kektordb.query.parser import parse
from kektordb.text import Analyzer

DIM = 6
FUSIONS = ["minmax", "rrf", "dbsf", "legacy"]
WEIGHTS = {"title": 2.5}
WORDS = ["the", "red", "running", "shoe", "of", "a", "wolf", "sings", "at", "night", "while", "rivers", "run"]
WORDS += ["slowly", "and", "shoes", "rest", "by", "cold", "stones"]
ENGLISH = Analyzer("english")


class Truth:
    """What an index should know, kept as plain Python, in the order in which items came in."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[npt.NDArray[np.float32], dict[str, Any]]] = {}

    def put(self, id: str, vector: npt.NDArray[np.float32], metadata: dict[str, Any]) -> None:
        self.items.pop(id, None)
        self.items[id] = vector, metadata

    def distances(self, query: npt.NDArray[np.float32]) -> dict[str, float]:
        return {id: float(((query - vector) ** 2).sum()) for id, (vector, _) in self.items.items()}

    def bm25(self, query: str) -> dict[str, float]:
        """Return the score of every item in which a word occurs."""
        terms = Counter(ENGLISH.analyse(query))
        by_field: dict[str, dict[str, list[str]]] = {}
        for id, (_, metadata) in self.items.items():
            for field, text in fields(metadata):
                by_field.setdefault(field, {}).setdefault(id, []).extend(ENGLISH.analyse(text))
        scores: dict[str, float] = {}
        for field, texts in by_field.items():
            average = fmean(map(len, texts.values()))
            for term, repeated in terms.items():
                df = sum(term in words for words in texts.values())
                idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
                for id, words in texts.items():
                    tf = words.count(term)
                    if tf:
                        part = tf / (tf + 1.2 * (1 - 0.75 + 0.75 * len(words) / average))
                        scores[id] = scores.get(id, 0.0) + WEIGHTS.get(field, 1.0) * repeated * idf * part
        return scores

    def matching(self, filter: str | None) -> set[str]:
        if filter is None:
            return set(self.items)
        rows = filter_rows(parse(filter), dict(enumerate(metadata for _, metadata in self.items.values())))
        ids = list(self.items)
        return {ids[row] for row in rows}

    def by_text(self, query: str, k: int, filter: str | None = None) -> dict[str, float]:
        allowed = self.matching(filter)
        return self.best({id: score for id, score in self.bm25(query).items() if id in allowed}, k)

    def best(self, scores: dict[str, float], k: int) -> dict[str, float]:
        place = {id: at for at, id in enumerate(self.items)}
        ordered = sorted(scores, key=lambda id: (-scores[id], place[id]))
        return {id: scores[id] for id in ordered[:k]}

    def by_both(
        self,
        vector: npt.NDArray[np.float32],
        query: str,
        k: int,
        alpha: float,
        fusion: str,
        filter: str | None = None,
    ) -> dict[str, float]:
        allowed = self.matching(filter)
        distances = {id: distance for id, distance in self.distances(vector).items() if id in allowed}
        texts = {id: score for id, score in self.bm25(query).items() if id in allowed}
        n = k if fusion == "legacy" else max(100, 4 * k)
        near = list(self.best({id: -distance for id, distance in distances.items()}, n))
        best = list(self.best(texts, len(texts) if fusion == "legacy" else n))
        candidates = list(dict.fromkeys([*near, *best]))
        if not candidates:
            return {}
        if fusion == "legacy":
            top = max(texts.values(), default=1.0)
            fused = {
                id: alpha * (1 / (1 + distances[id]) if id in near else 0.0) + (1 - alpha) * texts.get(id, 0.0) / top
                for id in candidates
            }
        else:
            normalise = {"minmax": minmax, "rrf": rrf, "dbsf": dbsf}[fusion]
            vectors = normalise({id: -distances[id] for id in candidates}, True)
            words = normalise({id: texts.get(id, 0.0) for id in candidates}, False)
            fused = {id: alpha * vectors[id] + (1 - alpha) * words[id] for id in candidates}
        return self.best(fused, k)


def fields(metadata: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in metadata.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield prefix + name, one
        if isinstance(value, dict):
            yield from fields(value, f"{prefix}{name}.")


def minmax(values: dict[str, float], is_vector: bool) -> dict[str, float]:
    low, high = min(values.values()), max(values.values())
    if low == high:
        return dict.fromkeys(values, 1.0 if is_vector or low > 0 else 0.0)
    return {id: (value - low) / (high - low) for id, value in values.items()}


def rrf(values: dict[str, float], is_vector: bool) -> dict[str, float]:
    found = [value for value in values.values() if is_vector or value > 0]
    return {
        id: 1 / (61 + sum(other > value for other in found)) if is_vector or value > 0 else 0.0
        for id, value in values.items()
    }


def dbsf(values: dict[str, float], is_vector: bool) -> dict[str, float]:
    mean, deviation = fmean(values.values()), pstdev(values.values())
    if min(values.values()) == max(values.values()):
        return dict.fromkeys(values, 0.5)
    return {id: 0.5 + (value - mean) / (6 * deviation) for id, value in values.items()}


def document(rng: np.random.Generator) -> dict[str, Any]:
    """Make metadata in which fields are texts, lists, nested, something else, or missing."""
    metadata: dict[str, Any] = {"n": int(rng.integers(100)), "body": " ".join(rng.choice(WORDS, rng.integers(0, 30)))}
    if rng.random() < 0.7:
        metadata["title"] = " ".join(rng.choice(WORDS, 3))
    elif rng.random() < 0.5:
        metadata["title"] = [7, {"title": "wolf"}, "red", "cold stone", None][: rng.integers(6)]
    if rng.random() < 0.3:
        metadata["about"] = {"place": str(rng.choice(WORDS)), "year": 1999}
    if rng.random() < 0.1:
        metadata["body"] = int(rng.integers(9))
    return metadata


def fill(index: kektordb.Index, n: int, seed: int) -> Truth:
    rng, truth = np.random.default_rng(seed), Truth()
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    documents = [document(rng) for _ in range(n)]
    index.add_batch([f"i{i}" for i in range(n)], vectors, documents)
    for i in range(n):
        truth.put(f"i{i}", vectors[i], documents[i])
    return truth


def create(db: kektordb.Database, **options: Any) -> kektordb.Index:
    return db.create_index("texts", metric="euclidean", text_language="english", field_weights=WEIGHTS, **options)


def check(index: kektordb.Index, truth: Truth, seed: int, filter: str | None = None) -> None:
    """Compare searches of every kind with the truth."""
    rng = np.random.default_rng(seed)
    for fusion in FUSIONS:
        query = " ".join(rng.choice(WORDS, rng.integers(1, 5)))
        vector = rng.standard_normal(DIM).astype(np.float32)
        k, alpha = int(rng.integers(1, 15)), float(rng.choice([0.2, 0.5, 0.9]))
        same(index.search(text=query, k=k, filter=filter), truth.by_text(query, k, filter))
        hits = index.search(vector, k, text=query, alpha=alpha, fusion=fusion, filter=filter)
        same(hits, truth.by_both(vector, query, k, alpha, fusion, filter))
        distances, scores = truth.distances(vector), truth.bm25(query)
        for hit in hits:
            assert hit.distance == pytest.approx(distances[hit.id], rel=1e-4, abs=1e-5)
            assert hit.text_score == pytest.approx(scores.get(hit.id, 0.0), rel=1e-5)


def same(hits: kektordb.Results, expected: dict[str, float]) -> None:
    """Compare scores, and ids but for those whose scores are as good as equal."""
    found = {hit.id: hit.score for hit in hits}
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4, abs=1e-6)
    last = min(expected.values(), default=0.0)
    assert {id for id, score in found.items() if score > last + 1e-4} == {
        id for id, score in expected.items() if score > last + 1e-4
    }


@pytest.fixture
def db() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:", n_threads=1) as database:
        yield database


@pytest.fixture
def shoes(db: kektordb.Database) -> kektordb.Index:
    index = create(db)
    index.add("a", [0, 0, 0, 0, 0, 0], {"title": "Red running shoes", "price": 40})
    index.add("b", [1, 0, 0, 0, 0, 0], {"title": "Blue shoes", "price": 60})
    index.add("c", [2, 0, 0, 0, 0, 0], {"title": "A wolf in the night", "price": 10})
    return index


# -------------------------------------------------------------------------------------------------- against the truth


@pytest.mark.parametrize("filter", [None, "n < 50", "n < 3", "title = 'red'", "NOT EXISTS(body)", "n < 0"])
@pytest.mark.parametrize("n", [1, 90, 400])
def test_scores_are_those_of_the_truth(db: kektordb.Database, n: int, filter: str | None) -> None:
    index = create(db)
    truth = fill(index, n, n)

    for seed in range(4):
        check(index, truth, seed, filter)


def change(index: kektordb.Index, truth: Truth, seed: int) -> None:
    """Delete, replace and update."""
    rng = np.random.default_rng(seed)
    for id in rng.permutation(list(truth.items))[:60]:
        kind = rng.integers(4)
        if kind == 0:
            index.delete(str(id))
            del truth.items[id]
        elif kind == 1:
            vector, metadata = rng.standard_normal(DIM).astype(np.float32), document(rng)
            index.upsert(str(id), vector, metadata)
            truth.put(str(id), vector, metadata)
        else:
            metadata = document(rng)
            index.update_metadata(str(id), metadata, replace=bool(kind == 2))
            vector, old = truth.items[id]
            truth.items[id] = vector, metadata if kind == 2 else {**old, **metadata}


def test_scores_stay_exact_through_deletes_replacements_and_updates(db: kektordb.Database) -> None:
    index = create(db)
    truth = fill(index, 200, 1)

    for seed in range(5):
        change(index, truth, seed)
        check(index, truth, seed)
        check(index, truth, seed, "n < 40")


@pytest.mark.parametrize("saved", [True, False], ids=["snapshot and log", "log"])
def test_texts_are_there_after_opening_again(tmp_path: Path, saved: bool) -> None:
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as db:
        truth = fill(create(db), 150, 2)
        change(db["texts"], truth, 2)
        if saved:
            db.save()
        change(db["texts"], truth, 3)
        config = db["texts"].config
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as db:
        index = db["texts"]
        assert index.config == config
        check(index, truth, 2)
        change(index, truth, 4)
        check(index, truth, 4)
        db.save()
    with kektordb.open(tmp_path / "db", read_only=True) as db:
        check(db["texts"], truth, 5)


def test_opening_a_snapshot_analyses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kektordb.open(tmp_path / "db") as db:
        truth = fill(create(db), 50, 3)
        db.save()

    def refuse(*_: Any) -> None:
        raise AssertionError("a text was analysed")

    with monkeypatch.context() as patch:
        for name in ("analyse", "iterate", "term_of"):
            patch.setattr(Analyzer, name, refuse)
        opened = kektordb.open(tmp_path / "db")
    with opened:
        check(opened["texts"], truth, 3)


def test_a_snapshot_without_texts_has_no_sections_of_them(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("plain").add("a", [1.0], {"title": "red"})
        names = {section.name for section in db._state.freeze(True).sections}
        assert not [name for name in names if "/text/" in name]
        create(db).add("a", [1.0], {"title": "red"})
        names = {section.name for section in db._state.freeze(True).sections}
        assert {"2/text/names", "2/text/terms/arena", "2/text/fields", "2/text/0/cells"} <= names


def test_a_batch_of_writes_counts_as_a_whole(db: kektordb.Database) -> None:
    index = create(db)
    truth = fill(index, 50, 5)
    with db.batch():
        change(index, truth, 5)

    check(index, truth, 5)


# ------------------------------------------------------------------------------------------------------------- fusion


def test_alpha_of_one_is_a_vector_search_and_of_zero_a_text_search(db: kektordb.Database) -> None:
    index = create(db)
    fill(index, 300, 6)
    vector = np.ones(DIM, np.float32)

    both = index.search(vector, 20, text="red shoes", alpha=1.0)
    assert both.ids == index.search(vector, 20).ids
    assert (both[0].score, both[0].text_score) == (index.search(vector, 20)[0].score, None)

    both = index.search(vector, 20, text="red shoes", alpha=0.0)
    assert both.ids == index.search(k=20, text="red shoes").ids
    assert both[0].distance is None


def test_legacy_is_the_arithmetic_of_the_original() -> None:
    """Two dimensions, four texts, by hand.

    N = 4, average length 2.25 words. "red" is in a (twice, of 4 words) and d (once, of 1): df 2, idf ln(1 + 2.5 / 2.5)
    = ln 2. a: 2 / (2 + 1.2 * (0.25 + 0.75 * 4 / 2.25)) = 2 / 3.9 = 0.512821; d: 1 / (1 + 1.2 * (0.25 + 0.75 / 2.25)) =
    1 / 1.7 = 0.588235. The best is d: text parts a 0.871795, d 1.

    Distances from (0, 0): b 0, c 1, a 4, d 9. With k = 2 only b and c are found by the vector: parts b 1, c 0.5.
    Fused at alpha 0.5: b 0.5, d 0.5, a 0.435897, c 0.25; at 0.3: d 0.7, a 0.610256, b 0.3.
    """
    with kektordb.open(":memory:") as db:
        index = db.create_index("four", metric="euclidean", text_language="simple")
        index.add("a", [2, 0], {"t": "red fox red hat"})
        index.add("b", [0, 0], {"t": "blue hat"})
        index.add("c", [1, 0], {"t": "grey fox"})
        index.add("d", [3, 0], {"t": "red"})

        hits = index.search([0, 0], 2, text="red", fusion="legacy", alpha=0.5)
        assert hits.ids == ["b", "d"], "equal scores in the order of adding"
        assert hits.scores == pytest.approx([0.5, 0.5])
        hits = index.search([0, 0], 2, text="red", fusion="legacy", alpha=0.3)
        assert hits.ids == ["d", "a"]
        assert hits.scores == pytest.approx([0.7, 0.7 * 0.871795], rel=1e-5)
        hits = index.search([0, 0], 4, text="red", fusion="legacy", alpha=0.5)
        assert hits.ids == ["d", "a", "b", "c"]
        assert hits.scores == pytest.approx([0.55, 0.535897, 0.5, 0.25], rel=1e-5)
        assert list(hits.distances) == [9, 4, 0, 1]
        assert hits.text_scores == pytest.approx([0.407734, 0.355460, 0, 0], rel=1e-4)
        assert index.search([0, 0], 2, text="red", fusion="legacy", alpha=0).ids == ["d", "a"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_candidate_has_the_distance_of_a_vector_search(metric: str, precision: str) -> None:
    rng = np.random.default_rng(8)
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", metric=metric, precision=precision, text_language="simple")
        vectors = rng.standard_normal((500, 20))
        index.add_batch([str(i) for i in range(500)], vectors, [{"t": f"w{i % 100}"} for i in range(500)])
        query = rng.standard_normal(20)

        # Those with the word are seldom among the nearest 100, and have the score of the best text.
        hits = index.search(query, 5, text="w7", alpha=0.01, ef_search=500)
        expected = dict(zip(*(lambda r: (r.ids, r.distances))(index.search(query, 500)), strict=True))
        assert {int(id) % 100 for id in hits.ids} == {7}
        assert list(hits.distances) == pytest.approx([expected[id] for id in hits.ids], abs=1e-6)
        assert sorted(hits.distances) == list(hits.distances)


def test_words_that_nobody_has_leave_the_order_to_the_vectors(shoes: kektordb.Index) -> None:
    for fusion in FUSIONS:
        for words in ("", "the of", "unheard", "\x00\x07 \ud800 …"):
            hits = shoes.search([2, 0, 0, 0, 0, 0], text=words, fusion=fusion)
            assert hits.ids == ["c", "b", "a"]
            assert [hit.text_score for hit in hits] == [0, 0, 0]
    for words in ("", "the of", "unheard", "\x00\x07 \ud800 …"):
        assert len(shoes.search(text=words)) == 0


# --------------------------------------------------------------------------------------------------------------- hits


def test_hits_say_what_was_searched(shoes: kektordb.Index) -> None:
    only_vector = shoes.search([0] * 6)[0]
    assert (only_vector.distance, only_vector.score, only_vector.text_score) == (0, 1, None)
    only_text = shoes.search(text="shoe")
    assert only_text.ids == ["b", "a"]
    assert only_text[0].distance is None
    assert only_text[0].score == only_text[0].text_score == only_text.scores[0]
    assert np.isnan(only_text.distances).all()
    both = shoes.search([0] * 6, text="wolf", include=["metadata", "vector"])
    assert both.ids[:2] == ["a", "c"] or both.ids[:2] == ["c", "a"]
    hit = next(hit for hit in both if hit.id == "c")
    assert (hit.metadata, list(hit.vector)) == ({"title": "A wolf in the night", "price": 10}, [2, 0, 0, 0, 0, 0])
    assert (hit.distance, hit.snippet, hit.explanation) == (4, None, None)
    assert isinstance(both, kektordb.Results)
    assert shoes.search(text="shoe", include=[])[0].metadata is None
    assert [hit.id for hit in both[::-1]] == both.ids[::-1]


def test_snippets_mark_the_words_as_they_were_written(shoes: kektordb.Index) -> None:
    hits = shoes.search(text="RUN shoe", snippet=True)
    assert [hit.snippet for hit in hits] == ["Red <b>running</b> <b>shoes</b>", "Blue <b>shoes</b>"]
    hits = shoes.search([2, 0, 0, 0, 0, 0], text="running", snippet=True, include=[])
    assert {hit.id: hit.snippet for hit in hits}["c"] == "A wolf in the night", "without a match the beginning"
    assert shoes.search([0] * 6, snippet=True)[0].snippet == "Red running shoes"


def test_a_snippet_is_of_the_field_that_matches_best(db: kektordb.Database) -> None:
    index = create(db)
    index.add("a", [1.0], {"long": "nothing here " * 50, "list": [1, "a cold stone", "the wolf"], "title": 5})
    index.add("b", [1.0], {"n": 1})
    hits = index.search([1.0], text="wolves wolf", snippet=True)
    assert [hit.snippet for hit in hits] == ["a cold stone\nthe <b>wolf</b>", None]


def test_explanations_add_up(db: kektordb.Database) -> None:
    index = create(db)
    fill(index, 200, 9)
    vector = np.ones(DIM, np.float32)
    for fusion in FUSIONS:
        hits = index.search(vector, 8, text="red red wolf shoes", alpha=0.3, fusion=fusion, explain=True)
        for hit in hits:
            why = hit.explanation
            assert why is not None
            assert (why.fusion, why.alpha, why.distance, why.text_score) == (fusion, 0.3, hit.distance, hit.text_score)
            assert why.score == hit.score == pytest.approx(0.3 * why.vector_part + 0.7 * why.text_part)
            assert sum(term.score for term in why.terms) == pytest.approx(hit.text_score, rel=1e-5)
            for term in why.terms:
                assert term.idf == pytest.approx(math.log(1 + (term.n_texts - term.df + 0.5) / (term.df + 0.5)))
                bound = term.tf + 1.2 * (0.25 + 0.75 * term.length / term.average_length)
                assert term.score == pytest.approx(term.weight * term.idf * term.tf / bound)
                assert term.weight == (2 if term.term == "red" else 1) * (2.5 if term.field == "title" else 1)
    shown = str(hits[0].explanation)
    assert all(word in shown for word in ("score", "legacy over", "vector: distance", "text: BM25", "idf", "tf"))
    by_text = index.search(text="wolf", k=1, explain=True)[0]
    assert by_text.explanation.fusion == "text"
    assert by_text.explanation.vector_part is by_text.explanation.distance is None
    by_vector = index.search(vector, 1, explain=True)[0]
    assert (by_vector.explanation.fusion, by_vector.explanation.terms) == ("vector", ())
    assert by_vector.score == by_vector.explanation.score == index.search(vector, 1)[0].score
    assert "no word matches" in str(index.search(vector, 1, text="unheard", explain=True)[0].explanation)


# ------------------------------------------------------------------------------------------------------------ filters


def test_the_words_of_contains_rank(db: kektordb.Database) -> None:
    index = create(db)
    truth = fill(index, 150, 10)
    vector = np.zeros(DIM, np.float32)
    for found in (
        index.search(filter="CONTAINS(body, 'wolf night') AND n < 70", k=12),
        index.search(filter="CONTAINS(body, $w) AND n < 70", params={"w": "wolf night"}, k=12),
    ):
        body = Truth()
        body.items = {id: (v, {"body": m.get("body"), "n": m["n"]}) for id, (v, m) in truth.items.items()}
        same(found, body.by_text("wolf night", 12, "n < 70"))
    hits = index.search(vector, 150, filter="CONTAINS(body, 'wolf') OR n < 0")
    assert hits.text_scores is None, "under OR it is a condition like others"
    assert hits.ids == [id for id in index.search(vector, 150).ids if id in set(hits.ids)]
    hits = index.search(vector, 5, filter="CONTAINS(body, 'wolf')")
    assert all(hit.text_score > 0 for hit in hits)
    more = index.search(vector, 5, filter="CONTAINS(body, 'wolf')", text="cold")
    assert all(hit.text_score > 0 for hit in more)
    assert more.ids != hits.ids
    assert (
        index.search(vector, 5, filter="CONTAINS(body, 'wolf')", alpha=1).ids
        == [id for id in index.search(vector, 150).ids if id in set(index.ids("CONTAINS(body, 'wolf')"))][:5]
    )


# ---------------------------------------------------------------------------------------------------------- bad input


BAD: dict[str, tuple[Callable[[kektordb.Index], object], type[Exception], str]] = {
    "alpha above 1": (lambda i: i.search([0] * 6, text="a", alpha=1.01), ConfigError, "alpha"),
    "alpha below 0": (lambda i: i.search([0] * 6, text="a", alpha=-0.01), ConfigError, "alpha"),
    "alpha NaN": (lambda i: i.search([0] * 6, text="a", alpha=math.nan), ConfigError, "alpha"),
    "alpha no number": (lambda i: i.search([0] * 6, text="a", alpha="0.5"), ConfigError, "alpha"),
    "alpha in text only": (lambda i: i.search(text="a", alpha=7), ConfigError, "alpha"),
    "fusion": (lambda i: i.search([0] * 6, text="a", fusion="best"), ConfigError, "minmax, rrf, dbsf, legacy"),
    "text": (lambda i: i.search(text=["a"]), ConfigError, "string"),  # type: ignore[arg-type]
    "bytes": (lambda i: i.search(text=b"a"), ConfigError, "string"),  # type: ignore[arg-type]
    "nothing": (lambda i: i.search(), VectorError, "neither"),
    "filter alone": (lambda i: i.search(filter="price > 1"), VectorError, "neither"),
    "NaN": (lambda i: i.search([math.nan] * 6, text="red"), VectorError, "NaN"),
    "NaN at alpha 0": (lambda i: i.search([math.nan] * 6, text="red", alpha=0), VectorError, "NaN"),
    "dimension": (lambda i: i.search([0] * 5, text="red"), VectorError, "6 dimensions"),
    "k": (lambda i: i.search(text="red", k=0), ConfigError, "k"),
    "filter": (lambda i: i.search(text="red", filter="price >"), FilterError, "expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_searches_are_refused(shoes: kektordb.Index, case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(shoes)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown language": ({"text_language": "klingon"}, "english"),
    "no language": ({"text_language": None}, "text_language"),
    "fields without language": ({"text_fields": ["a"]}, "text_language"),
    "weights without language": ({"field_weights": {"a": 1}}, "text_language"),
    "fields as one string": ({"text_language": "simple", "text_fields": "title"}, "sequence"),
    "field no string": ({"text_language": "simple", "text_fields": [1]}, "text_fields"),
    "field surrogate": ({"text_language": "simple", "text_fields": ["\ud800"]}, "text_fields"),
    "fields unhashable": ({"text_language": "simple", "text_fields": [[]]}, "text_fields"),
    "stop words": ({"text_language": "simple", "stop_words": "the"}, "stop_words"),
    "stop word of two": ({"text_language": "simple", "stop_words": ["so what"]}, "single words"),
    "k1": ({"text_language": "simple", "k1": -1}, "k1"),
    "k1 NaN": ({"text_language": "simple", "k1": math.nan}, "k1"),
    "b": ({"text_language": "simple", "b": 1.5}, "b to be"),
    "weight zero": ({"text_language": "simple", "field_weights": {"a": 0}}, "above 0"),
    "weight negative": ({"text_language": "simple", "field_weights": {"a": -1}}, "weight"),
    "weight no number": ({"text_language": "simple", "field_weights": {"a": "1"}}, "weight"),
    "weights no dict": ({"text_language": "simple", "field_weights": [1]}, "field_weights"),
    "weight of another": (
        {"text_language": "simple", "text_fields": ["b"], "field_weights": {"a": 1}},
        "field_weights",
    ),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused(db: kektordb.Database, case: str) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        db.create_index("x", **options)
    assert "x" not in db


def test_an_index_without_analyzer_says_what_to_do(db: kektordb.Database) -> None:
    index = db.create_index("plain")
    index.add("a", [1.0, 0.0], {"title": "red"})
    with pytest.raises(ConfigError, match="text_language"):
        index.search(text="red")
    with pytest.raises(ConfigError, match="text_language"):
        index.search([1.0, 0.0], text="red")
    with pytest.raises(ConfigError, match="text_language"):
        index.search([1.0, 0.0], snippet=True)
    with pytest.raises(FilterError):
        index.search(filter="CONTAINS(title, 'red')")
    assert index.search([1.0, 0.0], explain=True)[0].explanation.distance == 0
    assert "text_language" not in index.stats()


def test_an_empty_index_finds_nothing(db: kektordb.Database) -> None:
    index = create(db)
    assert len(index.search(text="red")) == 0
    assert len(index.search([1.0, 2.0], text="red", explain=True, snippet=True)) == 0
    index.add("a", [1.0, 2.0], {"title": "red"})
    index.delete("a")
    assert len(index.search(text="red")) == 0
    assert len(index.search([1.0, 2.0], text="red")) == 0


def test_ten_megabytes_in_one_field(db: kektordb.Database) -> None:
    index = create(db)
    index.add("small", [1.0], {"title": "wolf"})
    index.add("large", [2.0], {"title": ("wolf river stone " * 700_000)[: 10 << 20]})
    index.add("token", [3.0], {"title": "x" * (10 << 20)})

    assert set(index.search(text="wolf").ids) == {"small", "large"}
    hit = index.search(text="river", snippet=True, include=[])[0]
    assert "<b>river</b>" in hit.snippet
    assert len(hit.snippet) < 1000
    index.update_metadata("large", {"title": "stone"})
    assert index.search(text="river").ids == []
    assert len(index.search(text="wolf " * 1_000_000)) == 1
    assert index.stats()["texts"]["title"] == {"n_texts": 3, "n_terms": 2, "n_postings": 2, "n_words": 2}


def test_texts_with_what_is_no_text(db: kektordb.Database) -> None:
    index = create(db)
    index.add("control", [1.0], {"title": "\x00wolf\x07\x1b[0m\u200e\ufeffnight\x00"})
    index.add("number", [1.0], {"title": 7, "wolf": {"wolf": None}})
    index.add("empty", [1.0], {"title": ""})
    index.add("none", [1.0])
    with pytest.raises(kektordb.MetadataError):
        index.add("surrogate", [1.0], {"title": "\ud800 wolf"})

    assert index.search(text="wolf night").ids == ["control"]
    assert index.search(text="0m").ids == ["control"]
    assert index.search(text="\ud800wolf").ids == ["control"]
    assert index.search(text="7").ids == []
    index.update_metadata("number", {"title": "wolf"})
    assert set(index.search(text="wolf").ids) == {"control", "number"}
    index.update_metadata("number", {"title": ["wolf", 3]})
    index.update_metadata("number", {"title": False})
    assert index.search(text="wolf").ids == ["control"]


@pytest.mark.parametrize("question", ["", " \n", "the", "of the and", "!? -", "\x00\x1b", "\ud800"])
def test_questions_without_words_are_answered_by_vectors_alone(db: kektordb.Database, question: str) -> None:
    index = create(db)
    fill(index, 60, 8)
    vector = np.ones(DIM, np.float32)
    nearest = index.search(vector, 10).ids

    for options in ({}, {"filter": "n >= 0"}, {"explain": True, "snippet": True}):
        assert index.search(text=question, **options).ids == []
        assert index.search(vector, text=question, alpha=0.0, **options).ids == []
    for fusion in FUSIONS:
        hits = index.search(vector, 10, text=question, fusion=fusion, explain=True, snippet=True)
        assert hits.ids == nearest
        assert {hit.text_score for hit in hits} == {0.0}
        assert all(math.isfinite(hit.score) for hit in hits)
    with pytest.raises(ConfigError, match="alpha"):
        index.search(vector, text=question, alpha=1.5)


def test_texts_without_words_are_found_by_nothing(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        index = create(db)
        for id, title in {"empty": "", "stopped": "to be or not to be", "marks": "!?\x00", "red": "red"}.items():
            index.add(id, [1.0], {"title": title})
        index.upsert("was red", [1.0], {"title": "red"})
        index.update_metadata("was red", {"title": ""})
        db.save()
    with kektordb.open(tmp_path / "db") as db:
        index = db["texts"]

        assert index.search(text="to be red").ids == ["red"]
        assert index.stats()["texts"]["title"] == {"n_texts": 5, "n_terms": 1, "n_postings": 1, "n_words": 1}
        assert index.search([1.0], text="red", snippet=True)[0].id == "red"
        for id in ("empty", "stopped", "marks", "was red"):
            index.delete(id)
        assert index.stats()["texts"]["title"]["n_texts"] == 1
        assert index.search(text="red")[0].score == pytest.approx(WEIGHTS["title"] * math.log(1 + 0.5 / 1.5) / 2.2)


# ------------------------------------------------------------------------------------------------------------ options


def test_only_the_chosen_fields_are_texts(db: kektordb.Database) -> None:
    index = db.create_index("x", text_language="english", text_fields=["title", "about.place"])
    index.add("a", [1.0], {"title": "wolf", "body": "river", "about": {"place": "stone", "year": "night"}})

    assert [index.search(text=word).ids for word in ("wolf", "stone")] == [["a"], ["a"]]
    assert [index.search(text=word).ids for word in ("river", "night")] == [[], []]
    assert set(index.stats()["texts"]) == {"title", "about.place"}
    assert index.config.text_fields == ("title", "about.place")


def test_language_and_stop_words_are_chosen(db: kektordb.Database) -> None:
    cases = {
        ("english", None): {"running": 1, "run": 1, "the": 0},
        ("simple", None): {"running": 1, "run": 0, "the": 1},
        ("english", ("wolf",)): {"running": 1, "the": 1, "wolf": 0},
    }
    for (language, stop_words), expected in cases.items():
        index = db.create_index("x", text_language=language, stop_words=stop_words)
        index.add("a", [1.0], {"title": "The running wolf"})
        assert {word: len(index.search(text=word)) for word in expected} == expected
        db.drop_index("x")


def test_k1_and_b_change_the_scores(db: kektordb.Database) -> None:
    index = db.create_index("x", text_language="simple", k1=0, b=0)
    index.add_batch(["a", "b"], [[1.0], [1.0]], [{"t": "wolf wolf wolf"}, {"t": "wolf and others beside it"}])
    assert index.search(text="wolf").scores == pytest.approx([math.log(1.2)] * 2)


def test_keys_that_are_data_do_not_become_fields_without_end(db: kektordb.Database) -> None:
    index = create(db)
    index.add_batch([str(i) for i in range(300)], np.ones((300, 1)), [{f"k{i}": "wolf"} for i in range(300)])

    assert len(index.stats()["texts"]) == 256
    assert len(index.search(text="wolf", k=300)) == 256
    index.update_metadata("299", {"k299": "night", "k0": "night"})
    index.update_metadata("299", {"k299": "river"})
    assert index.search(text="night").ids == ["299"]


def test_stats_count_texts_and_their_memory(shoes: kektordb.Index) -> None:
    stats = shoes.stats()
    assert stats["texts"] == {"title": {"n_texts": 3, "n_terms": 6, "n_postings": 7, "n_words": 7}}
    assert stats["memory_bytes"]["text"] > 0
    assert stats["text_language"] == "english"


# ------------------------------------------------------------------------------------------------------------ threads


def test_searches_run_while_texts_come_and_go(db: kektordb.Database) -> None:
    index = create(db)
    rng = np.random.default_rng(11)
    index.add_batch([f"s{i}" for i in range(300)], rng.random((300, DIM)), [{"title": "steady stone"}] * 300)
    stop, errors, seen = threading.Event(), [], []

    def search() -> None:
        own = np.random.default_rng(12)
        try:
            while not stop.is_set():
                word = f"w{own.integers(400)}"
                for hit in index.search(own.random(DIM), text=f"{word} steady", alpha=0.2, snippet=True, explain=True):
                    assert hit.snippet is not None
                for hit in index.search(text=word):
                    assert word in hit.metadata["title"].split(), hit
                    seen.append(word)
                assert len(index.search(text="steady", k=1000)) == 300
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for start in range(0, 400, 40):
            part = range(start, start + 40)
            ids, texts = [f"i{i}" for i in part], [{"title": f"w{i} w{i - 40} new{i}"} for i in part]
            index.upsert_batch(ids, rng.random((40, DIM)), texts)
            index.update_metadata(f"i{start}", {"title": f"w{start} changed"})
            index.delete(ids[1:10])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert seen
