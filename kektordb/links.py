"""Which ids are linked to which? Each link is a durable key of the database; here they are found by either end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["RESERVED", "Link", "Links", "key_of"]

# What keys begin with that the database keeps for itself: `db.kv` neither shows nor changes them.
RESERVED = "\0kektordb\0"
PREFIX = f"{RESERVED}edge\0"

# By space and id, and then by relation, the other ends in order of their linking.
Ends = dict[tuple[str, str], dict[str, dict[str, None]]]


class Link(NamedTuple):
    """A directed link between two ids, which need not be items.

    Its space is the name of an index, or empty. What belongs to an index goes with it, and what begins or ends at an
    item goes with the item.
    """

    space: str
    source: str
    relation: str
    target: str


def key_of(link: Link) -> str:
    """Return the key of a link. A part's length stands before it: parts may hold anything."""
    return PREFIX + "".join(f"{len(part)}:{part}" for part in link)


def link_of(key: str) -> Link | None:
    """Return the link of a key, or None when it is that of none."""
    parts, at = [], len(PREFIX)
    if not key.startswith(PREFIX):
        return None
    for _ in Link._fields:
        length, colon, _rest = key[at : at + 8].partition(":")
        if not colon or not length.isascii() or not length.isdigit():
            return None
        at += len(length) + 1
        parts.append(key[at : at + int(length)])
        at += int(length)
    found = Link(*parts)
    return found if at == len(key) and key_of(found) == key else None


class Links:
    """The links that are among the keys. `note` and `forget` need the commit lock; all others may run beside them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: Ends = {}
        self._in: Ends = {}

    def __bool__(self) -> bool:
        return bool(self._out)

    def note(self, key: str) -> None:
        """Take in a key that was not there, if it is that of a link."""
        link = link_of(key)
        if link is not None:
            with self._lock:
                _join(self._out, (link.space, link.source), link.relation, link.target)
                _join(self._in, (link.space, link.target), link.relation, link.source)

    def forget(self, key: str) -> None:
        """Take out a key that was there."""
        link = link_of(key)
        if link is not None:
            with self._lock:
                _part(self._out, (link.space, link.source), link.relation, link.target)
                _part(self._in, (link.space, link.target), link.relation, link.source)

    def spaces(self) -> set[str]:
        """Return the spaces that have links."""
        with self._lock:
            return {space for space, _ in self._out}

    def of_space(self, space: str) -> list[str]:
        """Return the keys of all links of a space."""
        with self._lock:
            return [key_of(link) for node in self._out if node[0] == space for link in self._from(node)]

    def of_id(self, space: str, id: str) -> list[str]:
        """Return the keys of all links of a space that begin or end at an id."""
        node = (space, id)
        with self._lock:
            return [key_of(link) for link in dict.fromkeys((*self._from(node), *self._to(node)))]

    def outgoing(self, space: str, id: str) -> dict[str, list[str]]:
        """Return by relation where the links of an id lead."""
        with self._lock:
            return {relation: list(others) for relation, others in self._out.get((space, id), {}).items()}

    def incoming(self, space: str, id: str) -> dict[str, list[str]]:
        """Return by relation where the links to an id come from."""
        with self._lock:
            return {relation: list(others) for relation, others in self._in.get((space, id), {}).items()}

    def _from(self, node: tuple[str, str]) -> Iterator[Link]:
        for relation, targets in self._out.get(node, {}).items():
            for target in targets:
                yield Link(*node, relation, target)

    def _to(self, node: tuple[str, str]) -> Iterator[Link]:
        for relation, sources in self._in.get(node, {}).items():
            for source in sources:
                yield Link(node[0], source, relation, node[1])


def _join(ends: Ends, node: tuple[str, str], relation: str, other: str) -> None:
    ends.setdefault(node, {}).setdefault(relation, {})[other] = None


def _part(ends: Ends, node: tuple[str, str], relation: str, other: str) -> None:
    relations = ends[node]
    del relations[relation][other]
    if not relations[relation]:
        del relations[relation]
    if not relations:
        del ends[node]
