"""How are links between items kept? Each edge is one durable key of the database; in memory they are two maps."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from kektordb.database import Database

__all__ = ["RESERVED", "Edges", "Found", "Step"]

# Keys of the server itself; the key-value routes do not show them.
RESERVED = "\0kektordb\0"
_PREFIX = f"{RESERVED}edge\0"

Node = tuple[str, str]  # space (the index, or "" for none), id


class Step(NamedTuple):
    """An edge that was walked: along its direction (``out``) or against it (``in``)."""

    source: str
    target: str
    relation: str
    dir: str


class Found(NamedTuple):
    """What a walk met, in the order in which it did."""

    nodes: list[str]
    steps: list[Step]


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    space: str
    source: str
    relation: str
    target: str


class Edges:
    """Typed, directed edges between ids, which need not be items.

    They belong to a space: the name of an index, or the empty one of clients that name none. A reader that names an
    index sees both. They are read from the database when first asked for; afterwards this object is the only writer,
    unless the database follows another one: then they are read again when something has come from there.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._loaded = False
        self._seq: int | None = None  # what a follower had when they were read
        # By node and relation the other ends, in order of their linking.
        self._out: dict[Node, dict[str, dict[str, None]]] = {}
        self._in: dict[Node, dict[str, dict[str, None]]] = {}

    def link(self, space: str, source: str, relation: str, target: str, inverse: str = "") -> None:
        """Make an edge, and the one back when `inverse` names its relation. One that exists stays."""
        wanted = [_Stored(space, source, relation, target)]
        if inverse:
            wanted.append(_Stored(space, target, inverse, source))
        with self._lock:
            self._load()
            fresh = [edge for edge in wanted if not self._has(edge)]
            with self._database.batch():
                for edge in fresh:
                    self._database.kv[_key(edge)] = msgspec.msgpack.encode(edge)
            for edge in fresh:
                self._insert(edge)

    def unlink(self, space: str, source: str, relation: str, target: str, inverse: str = "") -> None:
        """Remove an edge of this space, or of the empty one, and the one back."""
        with self._lock:
            self._load()
            gone = []
            for where in {space, ""}:
                gone.append(_Stored(where, source, relation, target))
                if inverse:
                    gone.append(_Stored(where, target, inverse, source))
            self._remove([edge for edge in dict.fromkeys(gone) if self._has(edge)])

    def drop(self, space: str) -> None:
        """Remove all edges of a space."""
        with self._lock:
            self._load()
            self._remove(
                [
                    _Stored(node[0], node[1], relation, target)
                    for node, relations in self._out.items()
                    if node[0] == space
                    for relation, targets in relations.items()
                    for target in targets
                ]
            )

    def targets(self, space: str, source: str, relation: str) -> list[str]:
        """Return where the edges of a relation lead."""
        return self.outgoing(space, source).get(relation, [])

    def sources(self, space: str, target: str, relation: str) -> list[str]:
        """Return where the edges of a relation come from."""
        return self.incoming(space, target).get(relation, [])

    def outgoing(self, space: str, source: str) -> dict[str, list[str]]:
        """Return by relation where all edges of a node lead."""
        return self._around(self._out, space, source)

    def incoming(self, space: str, target: str) -> dict[str, list[str]]:
        """Return by relation where all edges to a node come from."""
        return self._around(self._in, space, target)

    def walk(self, space: str, root: str, relations: Iterable[str], max_depth: int, max_nodes: int) -> Found:
        """Return what is at most `max_depth` edges away, whichever way they point, the nearest first."""
        wanted = frozenset(relations)
        seen = {root: 0}
        steps: dict[tuple[str, str, str], Step] = {}
        waiting = deque([root])
        while waiting and len(seen) < max_nodes and len(steps) < max_nodes:
            node = waiting.popleft()
            if seen[node] >= max_depth:
                continue
            for other, step in self._steps(space, node, wanted):
                steps.setdefault((step.source, step.target, step.relation), step)
                if other not in seen:
                    seen[other] = seen[node] + 1
                    waiting.append(other)
        return Found(list(seen), list(steps.values()))

    def path(
        self, space: str, source: str, target: str, relations: Iterable[str], max_depth: int, max_nodes: int
    ) -> Found | None:
        """Return a shortest way, whichever way the edges point; None when there is none within the bounds."""
        wanted = frozenset(relations)
        came: dict[str, tuple[str, Step] | None] = {source: None}
        level = [source]
        for _ in range(max_depth):
            if target in came or not level or len(came) > max_nodes:
                break
            following = []
            for node in level:
                for other, step in self._steps(space, node, wanted):
                    if other not in came:
                        came[other] = (node, step)
                        following.append(other)
            level = following
        if target not in came:
            return None
        nodes, steps = [target], []
        before = came[target]
        while before is not None:
            nodes.append(before[0])
            steps.append(before[1])
            before = came[before[0]]
        return Found(nodes[::-1], steps[::-1])

    def _steps(self, space: str, node: str, wanted: frozenset[str]) -> Iterator[tuple[str, Step]]:
        for relation, others in self.outgoing(space, node).items():
            if not wanted or relation in wanted:
                for other in others:
                    yield other, Step(node, other, relation, "out")
        for relation, others in self.incoming(space, node).items():
            if not wanted or relation in wanted:
                for other in others:
                    yield other, Step(other, node, relation, "in")

    def _around(self, sides: dict[Node, dict[str, dict[str, None]]], space: str, id: str) -> dict[str, list[str]]:
        with self._lock:
            self._load()
            found: dict[str, dict[str, None]] = {}
            for where in (space, "") if space else ("",):
                for relation, others in sides.get((where, id), {}).items():
                    found.setdefault(relation, {}).update(others)
            return {relation: list(others) for relation, others in sorted(found.items())}

    # ------------------------------------------------------------------------------------------------- under the lock

    def _load(self) -> None:
        seq = None
        if self._database._following is not None or self._seq is not None:
            seq = self._followed_to()
        if self._loaded and seq == self._seq:
            return
        self._out.clear()
        self._in.clear()
        kv = self._database.kv
        for key in kv.prefix(_PREFIX):
            value = kv.get(key)
            if value is not None:  # a record of the leader may have removed it since
                self._insert(msgspec.msgpack.decode(value, type=_Stored))
        self._loaded, self._seq = True, seq

    def _followed_to(self) -> int | None:
        """Return the last record that a follower has applied; None once it is promoted, when none comes any more."""
        database = self._database
        with database._commits.lock:
            store = database._store
            return None if database._following is None or store is None else store.last_seq

    def _has(self, edge: _Stored) -> bool:
        return edge.target in self._out.get((edge.space, edge.source), {}).get(edge.relation, ())

    def _insert(self, edge: _Stored) -> None:
        out = self._out.setdefault((edge.space, edge.source), {})
        out.setdefault(edge.relation, {})[edge.target] = None
        back = self._in.setdefault((edge.space, edge.target), {})
        back.setdefault(edge.relation, {})[edge.source] = None

    def _remove(self, edges: list[_Stored]) -> None:
        with self._database.batch():
            for edge in edges:
                del self._database.kv[_key(edge)]
        for edge in edges:
            _forget(self._out, (edge.space, edge.source), edge.relation, edge.target)
            _forget(self._in, (edge.space, edge.target), edge.relation, edge.source)


def _forget(sides: dict[Node, dict[str, dict[str, None]]], node: Node, relation: str, other: str) -> None:
    relations = sides[node]
    del relations[relation][other]
    if not relations[relation]:
        del relations[relation]
    if not relations:
        del sides[node]


def _key(edge: _Stored) -> str:
    """Return the key of an edge. A part's length stands before it: parts may hold anything."""
    return _PREFIX + "".join(f"{len(part)}:{part}" for part in (edge.space, edge.source, edge.relation, edge.target))
