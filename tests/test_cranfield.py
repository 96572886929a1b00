"""Do words, and words and vectors together, find what people judged relevant? The Cranfield collection, where it is."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import kektordb

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "cranfield"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no Cranfield collection in {FOLDER}")


class Cranfield:
    """The documents in an index, and the judged queries with their vectors."""

    def __init__(self, db: kektordb.Database) -> None:
        texts = {}
        for line in (FOLDER / "docs.jsonl").read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            texts[str(document["id"])] = {"title": document["title"], "text": document["text"]}
        vectors = np.load(FOLDER / "minilm.npz")
        ids = [str(id) for id in vectors["ids"]]
        self.index = db.create_index("cranfield", text_language="english")
        self.index.add_batch(ids, vectors["docs"].astype(np.float32), [texts[id] for id in ids])
        self.vectors = dict(zip(map(str, vectors["qids"]), vectors["queries"].astype(np.float32), strict=True))
        rows = [line.split("\t") for line in (FOLDER / "queries.tsv").read_text(encoding="utf-8").splitlines()]
        self.queries = {row[0]: row[2] for row in rows if row[0] in self.vectors}
        self.gains: dict[str, dict[str, float]] = defaultdict(dict)
        for line in (FOLDER / "qrels.tsv").read_text(encoding="utf-8").splitlines():
            query, document, _, gain = line.split("\t")
            if query in self.queries:
                self.gains[query][document] = float(gain)

    def ndcg(self, search: Callable[[str], kektordb.Results]) -> float:
        """Return the mean nDCG@10 of a search that is given the number of a query."""
        values = []
        for query, gains in self.gains.items():
            found = [gains.get(id, 0.0) for id in search(query).ids]
            values.append(dcg(found) / dcg(sorted(gains.values(), reverse=True)))
        return sum(values) / len(values)


def dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:10]))


@pytest.fixture(scope="module")
def cranfield() -> Iterator[Cranfield]:
    with kektordb.open(":memory:") as db:
        yield Cranfield(db)


def test_words_find_what_is_relevant(cranfield: Cranfield) -> None:
    assert cranfield.ndcg(lambda q: cranfield.index.search(text=cranfield.queries[q])) >= 0.36


@pytest.mark.parametrize(("fusion", "least"), [("minmax", 0.405), ("rrf", 0.405), ("dbsf", 0.405), ("legacy", 0.38)])
def test_words_and_vectors_find_more_than_either(cranfield: Cranfield, fusion: str, least: float) -> None:
    index, vectors, queries = cranfield.index, cranfield.vectors, cranfield.queries

    both = cranfield.ndcg(lambda q: index.search(vectors[q], text=queries[q], fusion=fusion))

    assert both >= least
    assert both > cranfield.ndcg(lambda q: index.search(vectors[q]))
