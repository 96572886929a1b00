"""How fast are texts searched, indexed and changed, beside tantivy and bm25s, and how good is the order?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import cranfield
from benchmarks.corpus import documents, queries
from benchmarks.measure import Stopwatch, interleave, median
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.text_systems import (
    LANGUAGE,
    TEXT_NAMES,
    Bm25s,
    Kektordb,
    TextParts,
    TextSystem,
    available_texts,
)
from kektordb.text import Analyzer

__all__ = ["run"]

N_TEXTS = 42_000
N_QUERIES = 400
N_CHECKED = 100
KS = (10, 100)
OURS = ("kektordb", "kektordb-least", "kektordb-text")
# A change of ours takes microseconds, one of tantivy's milliseconds.
N_CHANGES = 400
FEWER_CHANGES = 20
LARGEST_DIFFERENCE = 1e-4


def run(options: Options) -> dict[str, Any]:
    """Measure everything about texts."""
    texts = documents(options.size(N_TEXTS))
    asked = queries(texts, options.size(N_QUERIES), Analyzer(LANGUAGE).stop_words)
    n_characters = sum(map(len, texts))
    print(f"{len(texts):,} texts of {n_characters / len(texts):.0f} characters, {len(asked)} queries", flush=True)
    kinds = available_texts(options.choose(TEXT_NAMES))
    results: dict[str, Any] = {"texts": len(texts), "characters": n_characters, "queries": len(asked)}
    results["indexing"] = indexing(kinds, texts, min(options.passes, 3))
    with tempfile.TemporaryDirectory() as folder:
        systems = filled(kinds, texts, Path(folder))
        results["latency"] = [line for k in KS for line in latency(systems, asked, k, options.passes)]
        results["memory"] = memory(systems)
        results["scores"] = check_scores(systems, asked[:N_CHECKED])
        results["changes"] = changes(systems, texts)
        for system in systems.values():
            system.close()
    results["cranfield"] = cranfield.measure()
    return results


def filled(kinds: list[type[TextSystem]], texts: list[str], folder: Path) -> dict[str, TextSystem]:
    """Fill each system with the same terms: peers get those of our analyser."""
    analyser = Analyzer(LANGUAGE)
    terms = [analyser.analyse(text) for text in texts]
    systems = {}
    for kind in kinds:
        own = folder / kind.name
        own.mkdir()
        systems[kind.name] = kind(texts, terms, own)
    return systems


def micros(watches: list[Stopwatch], n: int) -> dict[str, float]:
    """Return medians of passes over `n` calls, in microseconds a call."""
    return {
        "µs": median([watch.wall for watch in watches]) / n * 1e6,
        "µs (CPU)": median([watch.all_cpu for watch in watches]) / n * 1e6,
    }


# ------------------------------------------------------------------------------------------------------------ searches


def latency(systems: dict[str, TextSystem], asked: list[str], k: int, passes: int) -> list[dict[str, Any]]:
    """Time the same queries in every system, in turn."""
    loops: dict[str, Callable[[], None]] = {}
    for system in systems.values():
        for name, prepare in system.searchers(k).items():
            loops[name] = loop_over([prepare(query) for query in asked])
    for loop in loops.values():
        loop()
    watches = interleave(loops, passes)
    lines = [{"system": name, "k": k, **micros(found, len(asked))} for name, found in watches.items()]
    ours = next((line["µs (CPU)"] for line in lines if line["system"] == "kektordb"), None)
    for line in lines:
        line["times ours (CPU)"] = line["µs (CPU)"] / ours if ours else None
    show(f"mean time of a query, k = {k}, one thread", lines)
    return lines


def loop_over(calls: list[Callable[[], Any]]) -> Callable[[], None]:
    """Return one call that makes all of them."""

    def loop() -> None:
        for call in calls:
            call()

    return loop


def check_scores(systems: dict[str, TextSystem], asked: list[str]) -> dict[str, Any] | None:
    """Compare scores with those of bm25s; fail where they differ."""
    ours, theirs = systems.get("kektordb"), systems.get("bm25s")
    if not isinstance(ours, Kektordb) or not isinstance(theirs, Bm25s):
        return None
    largest, n_compared = 0.0, 0
    for query in asked:
        expected = theirs.scores(query)
        found = ours.scores(query, 50)
        best = sorted(map(float, expected), reverse=True)[: len(found)]
        pairs = [(score, float(expected[number])) for number, score in found.items()]
        pairs += zip(found.values(), best, strict=True)
        largest = max([largest, *(abs(one - other) for one, other in pairs)])
        n_compared += len(found)
    print(f"\n{n_compared:,} scores compared with those of bm25s: they differ by {largest:.1e} at most", flush=True)
    assert largest <= LARGEST_DIFFERENCE
    return {"compared": n_compared, "largest difference": largest}


# ------------------------------------------------------------------------------------------------- indexing and memory


def indexing(kinds: list[type[TextSystem]], texts: list[str], passes: int) -> list[dict[str, Any]]:
    """Time indexing from raw text with one thread, cutting and stemming included."""
    tasks: dict[str, Callable[[], None]] = {}
    for kind in kinds:
        if kind.name in ("kektordb-text", "tantivy", "bm25s"):
            tasks[kind.name] = task_of(kind, texts)
    watches = interleave(tasks, passes)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    lines = [
        {
            "system": name,
            "seconds": median([watch.wall for watch in found]),
            "seconds (CPU)": median([watch.all_cpu for watch in found]),
            "MB/s (CPU)": megabytes / median([watch.all_cpu for watch in found]),
        }
        for name, found in watches.items()
    ]
    ours = next((line["seconds (CPU)"] for line in lines if line["system"] == "kektordb-text"), None)
    for line in lines:
        line["times ours (CPU)"] = line["seconds (CPU)"] / ours if ours else None
    show(f"indexing {len(texts):,} raw texts, {megabytes:.1f} MB, one thread", lines)
    return lines


def task_of(kind: type[TextSystem], texts: list[str]) -> Callable[[], None]:
    """Return a call that indexes and forgets."""

    def task() -> None:
        kind.index(texts)

    return task


def memory(systems: dict[str, TextSystem]) -> dict[str, Any] | None:
    """Return the bytes of our text index by posting."""
    ours, parts = systems.get("kektordb"), systems.get("kektordb-text")
    if not isinstance(ours, Kektordb) or not isinstance(parts, TextParts):
        return None
    counts, n_bytes = parts.fields.index.stats(0), parts.fields.index.memory_bytes()
    n = counts["n_postings"]
    line = {
        "postings": n,
        "terms": counts["n_terms"],
        "lists": counts["list_bytes"] / n,
        "forward lists": counts["forward_bytes"] / n,
        "all but the vocabulary": n_bytes / n,
        "all": ours.items.stats()["memory_bytes"]["text"] / n,
    }
    show("bytes a posting", [line])
    return line


# ------------------------------------------------------------------------------------------------------------- changes


def changes(systems: dict[str, TextSystem], texts: list[str]) -> list[dict[str, Any]]:
    """Time adding one text, until it is seen by the next search, and deleting one."""
    lines = []
    for name, system in systems.items():
        if not system.changes:
            continue
        n = min(N_CHANGES if name in OURS else FEWER_CHANGES, len(texts) // 4)
        # The largest terms are looked up once before the clock starts.
        system.add(texts[0])
        system.delete()
        adds = [task_of_change(system, text) for text in texts[1 : n + 1]]
        loops = {"add": loop_over(adds), "delete": loop_over([system.delete] * n)}
        watches = interleave(loops, 3)
        line: dict[str, Any] = {"system": name}
        for what, found in watches.items():
            line |= {f"{what}, {unit}": value for unit, value in micros(found, n).items()}
        lines.append(line)
    for name in OURS:
        base = next((line for line in lines if line["system"] == name), None)
        for line in lines:
            for what in ("add", "delete") if base is not None else ():
                line[f"{what}, times {name}"] = line[f"{what}, µs (CPU)"] / base[f"{what}, µs (CPU)"]
    show("one text added and visible, one deleted", lines)
    return lines


def task_of_change(system: TextSystem, text: str) -> Callable[[], None]:
    """Return a call that adds a text."""
    return lambda: system.add(text)


def show(title: str, lines: list[dict[str, Any]]) -> None:
    """Print lines that have the same keys, if there are any."""
    if lines:
        table(title, list(lines[0]), [list(line.values()) for line in lines])
