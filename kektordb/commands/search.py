"""``kektordb search`` and ``kektordb add``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kektordb.commands.answer import Answer, count, new_command, table
from kektordb.commands.target import add_creation, add_target, index_of, opened
from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.commands.target import AnyIndex
    from kektordb.results import Hit

__all__ = ["add", "answer_of_hits", "answer_of_matches"]

SHOWN = 60  # characters of metadata and snippets, for a human


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "search", _search, "find the items that are nearest, that words fit, or that match")
    add_target(parser)
    parser.add_argument("--vector", metavar="NUMBERS", help="the query: numbers with commas between, or a JSON list")
    parser.add_argument("--like", metavar="ID", help="the query is the vector of this item")
    parser.add_argument("--text", metavar="WORDS", help="words to look for in the texts")
    parser.add_argument("--filter", metavar="FILTER", help="only items that match, such as: price < 50")
    parser.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[], help="of $NAME in the filter; may be given again"
    )
    parser.add_argument("-k", "--k", metavar="N", type=int, default=10, help="results wanted; 10 by default")
    parser.add_argument("--ef-search", metavar="N", type=int, help="candidates: more find more and take longer")
    parser.add_argument("--alpha", metavar="SHARE", type=float, default=0.5, help="weight of the vector beside words")
    parser.add_argument("--with-vectors", action="store_true", help="show vectors as well, with --json")
    parser = new_command(commands, "add", _add, "add one item")
    add_target(parser)
    parser.add_argument("id", metavar="ID", help="of the item")
    parser.add_argument(
        "--vector", metavar="NUMBERS", required=True, help="numbers with commas between, or a JSON list"
    )
    parser.add_argument("--metadata", metavar="JSON", help="a JSON object")
    add_creation(parser)


def _search(arguments: Namespace) -> Answer:
    with opened(arguments, writing=False) as database:
        index = database.index(arguments.index)
        vector = _query(arguments, index)
        params = _params(arguments.param)
        if vector is None and arguments.text is None:
            return _listed(arguments, index, params)
        found = index.search(
            vector,
            arguments.k,
            arguments.ef_search,
            arguments.filter,
            params,
            ("metadata", "vector") if arguments.with_vectors else ("metadata",),
            text=arguments.text,
            alpha=arguments.alpha,
            snippet=arguments.text is not None,
        )
        return answer_of_hits(list(found))


def answer_of_hits(hits: Sequence[Hit]) -> Answer:
    """Show the hits of a search."""
    data: list[dict[str, Any]] = []
    for hit in hits:
        one: dict[str, Any] = {"id": hit.id, "score": hit.score, "distance": hit.distance, "metadata": hit.metadata}
        if hit.vector is not None:
            one["vector"] = hit.vector.tolist()
        if hit.text_score is not None:
            one |= {"text_score": hit.text_score, "snippet": hit.snippet}
        data.append(one)
    rows = [
        (hit.id, f"{hit.score:.6g}", "" if hit.distance is None else f"{hit.distance:.6g}", _short(hit)) for hit in hits
    ]
    text = table(("id", "score", "distance", "metadata"), rows) if rows else "nothing found"
    return Answer({"results": data}, text)


def _listed(arguments: Namespace, index: AnyIndex, params: dict[str, Any] | None) -> Answer:
    """Answer a filter alone: the first items that match, in their order."""
    if arguments.filter is None:
        raise ConfigError("expected --vector, --like, --text or --filter")
    if arguments.k < 1:
        raise ConfigError(f"expected k to be at least 1, got {arguments.k}")
    return answer_of_matches(index, arguments.filter, params, arguments.k, arguments.with_vectors)


def answer_of_matches(
    index: AnyIndex, filter: str, params: dict[str, Any] | None, k: int, with_vectors: bool = False
) -> Answer:
    """Show the first `k` items that match a filter, in the order in which they came in, and count all."""
    ids = index.ids(filter, params)
    items = [item for item in index.get_many(ids[:k]) if item is not None]
    data: list[dict[str, Any]] = [{"id": item.id, "metadata": item.metadata} for item in items]
    if with_vectors:
        for one, item in zip(data, items, strict=True):
            one["vector"] = item.vector.tolist()
    rows = [(item.id, _short(item)) for item in items]
    text = f"{table(('id', 'metadata'), rows)}\n\n" if rows else ""
    return Answer({"results": data, "count": len(ids)}, f"{text}{count(len(ids), 'item')} match")


def _query(arguments: Namespace, index: AnyIndex) -> Any:
    if arguments.vector is not None and arguments.like is not None:
        raise ConfigError("expected either --vector or --like")
    if arguments.like is not None:
        return index[arguments.like].vector
    return None if arguments.vector is None else _numbers(arguments.vector)


def _numbers(text: str) -> list[float]:
    try:
        found = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(type(one) in (int, float) for one in found):
        raise ConfigError(f"expected numbers with commas between, got {text!r:.80}")
    return found


def _params(given: list[str]) -> dict[str, Any] | None:
    params: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"expected a parameter as NAME=VALUE, got {one!r:.80}")
        if value.startswith("["):
            try:
                params[name] = json.loads(value)
            except (ValueError, RecursionError):
                raise ConfigError(f"expected a JSON list as the value of {name!r:.80}, got {value!r:.80}") from None
        else:
            params[name] = value
    return params or None


def _short(found: Any) -> str:
    snippet = getattr(found, "snippet", None)
    text = snippet or json.dumps(found.metadata or {}, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _add(arguments: Namespace) -> Answer:
    vector = _numbers(arguments.vector)
    metadata = None
    if arguments.metadata is not None:
        try:
            metadata = json.loads(arguments.metadata)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"expected metadata as a JSON object: {error}") from None
    with opened(arguments, writing=True) as database:
        index = index_of(database, arguments)
        (index.upsert if arguments.replace else index.add)(arguments.id, vector, metadata)
        n_items = len(index)
    data = {"id": arguments.id, "index": arguments.index, "n_items": n_items}
    return Answer(data, f"{arguments.index}: {count(n_items, 'item')}")
