"""How good is the order of text, vector and hybrid search, by the judgements of the Cranfield collection?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import kektordb
from benchmarks.datasets import FOLDER
from benchmarks.report import table
from kektordb.fusion import METHODS

__all__ = ["measure", "ndcg"]

PLACE = FOLDER / "cranfield"
ALPHAS = (0.3, 0.5, 0.7)
DEPTH = 10


def measure() -> list[dict[str, Any]] | None:
    """Return nDCG@10 of text, vectors, and both by every fusion; None where the collection is not here."""
    if not PLACE.is_dir():
        print(f"left out: cranfield (no folder {PLACE.name} beside the other data)", flush=True)
        return None
    index = filled()
    judged = judgements()
    asked = dict(line.split("\t")[::2] for line in lines_of("queries.tsv"))
    with np.load(PLACE / "minilm.npz") as arrays:
        vectors = dict(zip(map(str, arrays["qids"]), arrays["queries"], strict=True))
    ways: dict[str, dict[str, Any]] = {"text": {"alpha": 0.0}, "vector": {"alpha": 1.0}}
    for fusion in METHODS:
        ways |= {f"hybrid, {fusion}, alpha {alpha}": {"alpha": alpha, "fusion": fusion} for alpha in ALPHAS}
    lines = []
    for name, arguments in ways.items():
        found = {query: index.search(vectors[query], text=asked[query], k=DEPTH, **arguments).ids for query in judged}
        quality = float(np.mean([ndcg(found[query], gains) for query, gains in judged.items()]))
        lines.append({"search": name, "nDCG@10": quality})
    table(f"cranfield: {len(judged)} queries", list(lines[0]), [list(line.values()) for line in lines])
    return lines


def filled() -> kektordb.Index:
    """Return an index of the abstracts, title and text as one, with the vectors given."""
    documents = [json.loads(line) for line in lines_of("docs.jsonl")]
    with np.load(PLACE / "minilm.npz") as arrays:
        rows = {str(id): row for id, row in zip(arrays["ids"], arrays["docs"], strict=True)}
    ids = [document["id"] for document in documents]
    index = kektordb.open(":memory:").create_index("cranfield", text_language="english")
    texts = [{"text": f"{document['title']} {document['text']}"} for document in documents]
    index.add_batch(ids, [rows[id] for id in ids], texts)
    return index


def judgements() -> dict[str, dict[str, int]]:
    """Return, by query, the gain of each document that was judged relevant."""
    found: dict[str, dict[str, int]] = {}
    for line in lines_of("qrels.tsv"):
        query, document, _, gain = line.split("\t")
        found.setdefault(query, {})[document] = int(gain)
    return found


def lines_of(name: str) -> list[str]:
    """Return the lines of a file of the collection."""
    return (PLACE / name).read_text(encoding="utf-8").splitlines()


def ndcg(found: list[str], gains: dict[str, int]) -> float:
    """Return the discounted gains of the first documents found, by those of the best order."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    got = np.array([max(0, gains.get(id, 0)) for id in found[:DEPTH]], dtype=float)
    best = np.array(sorted((gain for gain in gains.values() if gain > 0), reverse=True)[:DEPTH], dtype=float)
    return float(got @ discounts[: len(got)]) / float(best @ discounts[: len(best)]) if len(best) else 0.0
