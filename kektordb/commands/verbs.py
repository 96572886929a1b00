"""What can be asked for in the shell? One function for each verb, from what was typed to an `Answer`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from kektordb.commands.answer import Answer, count, printable, table
from kektordb.commands.info import contents, sizes, table_of_indexes
from kektordb.commands.search import answer_of_hits, answer_of_matches
from kektordb.commands.typed import Line
from kektordb.errors import ConfigError, IndexNotFound, KektorError

if TYPE_CHECKING:
    from kektordb.commands.target import AnyDatabase, AnyIndex

__all__ = ["VERBS", "Session", "completions", "run"]

SHOWN_KEYS = 1000
SHOWN_COMPONENTS = 8

_OPTIONS = ("k", "ef", "alpha")
_PLAIN_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_FILTER_WORDS = ("AND", "BETWEEN", "CONTAINS(", "CONTAINS_ALL(", "EXISTS(", "IN", "IS NULL", "LIKE", "NOT", "OR")


_QUERY = """QUERY is words, like ID, or a vector such as [0.1, 0.2], or one of these two and words; with k=N, ef=N and
alpha=SHARE, the weight of the vector beside words. What holds blanks stands in quotes."""


class Session:
    """What a shell keeps between two lines.

    Parameters
    ----------
    database : Database or RemoteDatabase

    Attributes
    ----------
    name : str or None
        Of the index that is used; at first the only one there is.
    options : dict
        ``k``, ``ef`` and ``alpha`` of searches that do not say them.
    params : dict
        Values of ``$name`` in filters.
    """

    def __init__(self, database: AnyDatabase) -> None:
        self.database = database
        names = list(database)
        self.name: str | None = names[0] if len(names) == 1 else None
        self.options: dict[str, Any] = {"k": 10, "ef": None, "alpha": 0.5}
        self.params: dict[str, Any] = {}

    def index(self) -> AnyIndex:
        """Return the index that is used. Raises ConfigError, IndexNotFound."""
        if self.name is None:
            raise ConfigError("expected an index to be used: use INDEX")
        return self.database.index(self.name)


class Verb(NamedTuple):
    """A verb: how it is written, what it does, and what does it."""

    usage: str
    help: str
    run: Callable[[Session, Line], Answer]


def run(session: Session, text: str) -> Answer:
    """Do what a line says. Raises KektorError."""
    line = Line(text)
    begin = line.position
    name = line.word("a verb").lower()
    if name not in VERBS:
        line.fail("expected a verb; help lists them", begin)
    return VERBS[name].run(session, line)


# ------------------------------------------------------------------------------------------------------------ searches


def _search(session: Session, line: Line) -> Answer:
    index, filter = session.index(), None
    words: list[str] = []
    vector: Any = None
    options = dict(session.options)
    while not line.is_over:
        is_first = vector is None and not words
        if is_first and line.keyword("like"):
            vector = index[line.word("an id")].vector
        elif is_first and line.text.startswith("[", line.position):
            vector = line.numbers()
        elif line.keyword("where"):
            if line.is_over:
                line.fail("expected a filter after where")
            filter = line.rest()
        elif (given := line.option(*_OPTIONS)) is not None:
            options[given[0]] = _number(line, *given)
        else:
            words.append(line.word("a word"))
    if vector is None and not words:
        line.fail("expected words, like ID, or a list of numbers; a filter alone is what filter is for")
    text = " ".join(words) or None
    found = index.search(
        vector,
        options["k"],
        options["ef"],
        filter,
        session.params if filter is not None else None,
        text=text,
        alpha=options["alpha"],
        snippet=text is not None,
    )
    return answer_of_hits(list(found))


def _number(line: Line, name: str, value: str, position: int) -> float | int | None:
    if name == "ef" and not value:
        return None
    try:
        return float(value) if name == "alpha" else int(value)
    except ValueError:
        line.fail(f"expected {name} to be a {'number' if name == 'alpha' else 'whole number'}", position)


def _filter(session: Session, line: Line) -> Answer:
    if line.is_over:
        line.fail("expected a filter")
    return answer_of_matches(session.index(), line.rest(), session.params, session.options["k"])


def _count(session: Session, line: Line) -> Answer:
    index = session.index()
    n = index.count() if line.is_over else index.count(line.rest(), session.params)
    return Answer({"count": n}, count(n, "item"))


def _explain(session: Session, line: Line) -> Answer:
    if line.is_over:
        line.fail("expected a filter")
    plan = str(session.index().explain(line.rest(), session.params))
    return Answer({"plan": plan}, plan)


def _get(session: Session, line: Line) -> Answer:
    id = line.word("an id")
    line.end()
    item = session.index()[id]
    vector = item.vector.tolist()
    shown = ", ".join(f"{one:.6g}" for one in vector[:SHOWN_COMPONENTS])
    more = f", … ({len(vector)} components)" if len(vector) > SHOWN_COMPONENTS else ""
    metadata = json.dumps(item.metadata, ensure_ascii=False, indent=2, sort_keys=True)
    lines = [f"id        {printable(id)}", f"vector    [{shown}{more}]", *map(printable, metadata.split("\n"))]
    return Answer({"id": id, "vector": vector, "metadata": item.metadata}, "\n".join(lines))


# ----------------------------------------------------------------------------------------------------- what there is


def _use(session: Session, line: Line) -> Answer:
    name = line.word("the name of an index")
    line.end()
    n = len(session.database.index(name))
    session.name = name
    return Answer({"index": name, "n_items": n}, f"{printable(name)}: {count(n, 'item')}")


def _indexes(session: Session, line: Line) -> Answer:
    line.end()
    stats = session.database.stats()
    text = table_of_indexes(stats) if stats["indexes"] else "there are no indexes"
    return Answer({"indexes": {name: found["n_items"] for name, found in stats["indexes"].items()}}, text)


def _info(session: Session, line: Line) -> Answer:
    line.end()
    stats = session.database.stats()
    parts = [contents(stats), table_of_indexes(stats) if stats["indexes"] else "", sizes(stats)]
    return Answer(stats, "\n\n".join(part for part in parts if part))


def _stats(session: Session, line: Line) -> Answer:
    line.end()
    stats = session.index().stats()
    rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in stats.items()]
    return Answer(stats, table(("what", "value"), rows))


def _fields(session: Session, line: Line) -> Answer:
    from kektordb.query import F

    line.end()
    index = session.index()
    found = {name: index.count(F(name).exists()) for name in index.fields()}
    text = table(("field", "items"), list(found.items())) if found else "no item has metadata"
    return Answer({"fields": found}, text)


# ------------------------------------------------------------------------------------------------------------- the rest


def _kv(session: Session, line: Line) -> Answer:
    keys = session.database.kv
    action = line.keyword("get", "set", "list", "delete")
    if action is None:
        line.fail("expected get, set, list or delete")
    if action == "list":
        prefix = "" if line.is_over else line.word("a prefix")
        line.end()
        found = list(islice(keys.prefix(prefix), SHOWN_KEYS + 1))
        shown, has_more = found[:SHOWN_KEYS], len(found) > SHOWN_KEYS
        lines = [*map(printable, shown), *(["…"] if has_more else [])]
        return Answer({"keys": shown, "has_more": has_more}, "\n".join(lines) or "there are no keys")
    key = line.word("a key")
    if action == "set":
        if line.is_over:
            line.fail("expected a value, got the end of the line")
        # As it is typed, unless it is one string in quotes.
        value = line.word("a value") if line.text[line.position] in "'\"" else line.rest()
        line.end()
        keys[key] = value
        return Answer({"key": key}, "set")
    line.end()
    content = keys.get(key)
    if content is None:
        raise ConfigError(f"there is no key {key!r:.80}")
    if action == "delete":
        del keys[key]
        return Answer({"key": key}, "deleted")
    return _value(key, content)


def _value(key: str, content: bytes) -> Answer:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return Answer({"key": key, "base64": encoded}, f"{count(len(content), 'byte')}, in base64: {encoded}")
    return Answer({"key": key, "value": text}, "\n".join(map(printable, text.split("\n"))))


def _save(session: Session, line: Line) -> Answer:
    line.end()
    session.database.save()
    return Answer({"saved": True}, "saved")


def _set(session: Session, line: Line) -> Answer:
    while not line.is_over:
        given = line.option(*_OPTIONS)
        if given is not None:
            session.options[given[0]] = _number(line, *given)
            continue
        name = line.parameter()
        if name is None:
            line.fail("expected k=N, ef=N, alpha=SHARE or $name=value")
        session.params[name] = line.value()
    shown = {**session.options, **{f"${name}": value for name, value in session.params.items()}}
    rows = [(name, "" if value is None else json.dumps(value, ensure_ascii=False)) for name, value in shown.items()]
    return Answer(shown, table(("name", "value"), rows))


def _help(session: Session, line: Line) -> Answer:
    wanted = line.word("a verb").lower() if not line.is_over else None
    line.end()
    if wanted is not None and wanted not in VERBS:
        raise ConfigError(f"there is no verb {wanted!r:.80}; help lists them")
    shown = VERBS if wanted is None else {wanted: VERBS[wanted]}
    parts = [table(("", ""), [(verb.usage, verb.help) for verb in shown.values()]).lstrip()]
    if "search" in shown:
        parts.append(_QUERY)
    return Answer({name: verb.help for name, verb in shown.items()}, "\n\n".join(parts))


def _quit(_: Session, line: Line) -> Answer:
    line.end()
    raise EOFError


VERBS: dict[str, Verb] = {
    "use": Verb("use INDEX", "ask this index from now on", _use),
    "search": Verb("search QUERY [where FILTER]", "find what is nearest, what words fit, or both", _search),
    "filter": Verb("filter FILTER", "list the first k items that match, and count all", _filter),
    "count": Verb("count [FILTER]", "count all items, or those that match", _count),
    "explain": Verb("explain FILTER", "say how a filter runs", _explain),
    "get": Verb("get ID", "show an item", _get),
    "fields": Verb("fields", "list the fields of the metadata, and how many items have them", _fields),
    "indexes": Verb("indexes", "list the indexes", _indexes),
    "info": Verb("info", "say what the database holds", _info),
    "stats": Verb("stats", "show all that is known of the index", _stats),
    "kv": Verb("kv list [PREFIX] | get KEY | set KEY VALUE | delete KEY", "look at keys, and change them", _kv),
    "set": Verb("set [k=N] [ef=N] [alpha=SHARE] [$NAME=VALUE]", "choose for the searches that follow", _set),
    "save": Verb("save", "write a snapshot", _save),
    "help": Verb("help [VERB]", "list the verbs", _help),
    "quit": Verb("quit", "leave; so does Ctrl-D", _quit),
    "exit": Verb("exit", "leave", _quit),
}


# ---------------------------------------------------------------------------------------------------------- completion


def completions(session: Session, before: str, begun: str) -> list[str]:
    """Return what may stand where the cursor is.

    Parameters
    ----------
    before : str
        The line up to the word that was begun.
    begun : str
        What is there of the word.
    """
    words = before.split()
    try:
        found = list(VERBS) if not words else _next(session, words)
    except (KektorError, OSError):
        return []
    return [one for one in found if one.lower().startswith(begun.lower())]


def _next(session: Session, words: list[str]) -> list[str]:
    verb = words[0].lower()
    if verb in ("filter", "count", "explain") or (verb == "search" and "where" in map(str.lower, words)):
        return [*_field_names(session), *_FILTER_WORDS]
    if verb == "search":
        return ["like", "where", "k=", "ef=", "alpha="]
    if verb == "set":
        return ["k=", "ef=", "alpha=", *(f"${name}=" for name in session.params)]
    if len(words) > 1:
        return []
    choices: dict[str, Callable[[], list[str]]] = {
        "use": lambda: list(session.database),
        "help": lambda: list(VERBS),
        "kv": lambda: ["get", "set", "list", "delete"],
    }
    return choices[verb]() if verb in choices else []


def _field_names(session: Session) -> list[str]:
    try:
        names = session.index().fields()
    except (ConfigError, IndexNotFound):
        return []
    return [name if _PLAIN_FIELD.fullmatch(name) else "`" + name.replace("`", "``") + "`" for name in names]
