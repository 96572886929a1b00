"""How are links between items made and walked? They are keys of the database, and `Links` finds them by their ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from kektordb.database import Database
from kektordb.kv import AllKeys
from kektordb.links import Link, Links, key_of

__all__ = ["Edges", "Found", "Step"]


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


class Edges:
    """Typed, directed edges between ids, which need not be items.

    They belong to a space: the name of an index, or the empty one of clients that name none. A reader that names an
    index sees both. Those of an index go with it, those of an item with the item, whoever drops or deletes it; a space
    without index knows no items, and keeps its edges until they are unlinked.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = AllKeys(database)

    def link(self, space: str, source: str, relation: str, target: str, inverse: str = "") -> None:
        """Make an edge, and the one back when `inverse` names its relation. One that exists stays.

        Raises IndexNotFound, when the index of the space was dropped meanwhile.
        """
        wanted = [Link(space, source, relation, target)]
        if inverse:
            wanted.append(Link(space, target, inverse, source))
        with self._database.batch():  # nobody else drops the index before its end
            if space:
                self._database.index(space)
            for edge in wanted:
                if key_of(edge) not in self._keys:
                    self._keys[key_of(edge)] = msgspec.msgpack.encode(edge)

    def unlink(self, space: str, source: str, relation: str, target: str, inverse: str = "") -> None:
        """Remove an edge of this space, or of the empty one, and the one back."""
        with self._database.batch():
            for where in {space, ""}:
                gone = [Link(where, source, relation, target)]
                if inverse:
                    gone.append(Link(where, target, inverse, source))
                for edge in dict.fromkeys(gone):
                    self._keys.pop(key_of(edge), None)

    def targets(self, space: str, source: str, relation: str) -> list[str]:
        """Return where the edges of a relation lead."""
        return self.outgoing(space, source).get(relation, [])

    def sources(self, space: str, target: str, relation: str) -> list[str]:
        """Return where the edges of a relation come from."""
        return self.incoming(space, target).get(relation, [])

    def outgoing(self, space: str, source: str) -> dict[str, list[str]]:
        """Return by relation where all edges of a node lead."""
        return self._around(self._links.outgoing, space, source)

    def incoming(self, space: str, target: str) -> dict[str, list[str]]:
        """Return by relation where all edges to a node come from."""
        return self._around(self._links.incoming, space, target)

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

    @property
    def _links(self) -> Links:
        return self._database._live().kv.links

    def _around(self, side: Callable[[str, str], dict[str, list[str]]], space: str, id: str) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {}
        for where in (space, "") if space else ("",):
            for relation, others in side(where, id).items():
                found.setdefault(relation, {}).update(dict.fromkeys(others))
        return {relation: list(others) for relation, others in sorted(found.items())}
