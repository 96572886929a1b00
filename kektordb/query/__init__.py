"""Which items does a filter mean? From text or Python to a plan that makes a bitmap.

::

    text --parser--> ast <--builder-- F("price") < 50
                      |
                   planner --> Plan.run(columns, n_slots, params) -> Bitmap

lark is loaded by the first filter that comes as text.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import msgspec

from kektordb.errors import FilterError
from kektordb.query import ast
from kektordb.query.ast import Node
from kektordb.query.builder import Expression, F
from kektordb.query.plan import Explanation, Plan
from kektordb.query.planner import make_plan

__all__ = ["Explanation", "Expression", "F", "Filter", "Plan", "ast", "compile_filter"]

Filter: TypeAlias = str | Expression | Node

# Longer ones are rarely asked twice, and would make the cache hold megabytes.
_CACHED_LENGTH = 4096
_NODE_LENGTH = 16


def compile_filter(filter: Filter) -> Plan:
    """Compile a filter to a plan; texts, and expressions of `F`, come from a cache of the last 1,024 of each.

    Raises
    ------
    FilterError
        The filter does not parse, is too deep or too long, or asks for what this index does not have.
    """
    if isinstance(filter, str):
        filter = str.__str__(filter)
        return _keep_text(filter) if len(filter) <= _CACHED_LENGTH else _compile(filter)
    if isinstance(filter, Expression):
        # Trees that were not made by F may hold constants that look alike and are not.
        return _keep_node(filter.node) if _is_small(filter.node) else make_plan(filter.node)
    if isinstance(filter, F):
        raise FilterError(f"{filter!r} is a field, not a filter: compare it, or ask exists()")
    return make_plan(filter)


def _compile(text: str) -> Plan:
    from kektordb.query.parser import parse

    return make_plan(parse(text), text)


@functools.lru_cache(maxsize=1024)
def _keep_text(text: str) -> Plan:
    return msgspec.structs.replace(_compile(text), is_kept=True)


@functools.lru_cache(maxsize=1024)
def _keep_node(node: Node) -> Plan:
    return msgspec.structs.replace(make_plan(node), is_kept=True)


def _is_small(node: Node) -> bool:
    """Tell whether a tree is worth keeping; then it is also shallow enough to be hashed, which recurses."""
    pending: list[object] = [node]
    room = _CACHED_LENGTH
    for one in pending:
        room -= len(one) if isinstance(one, str) else _NODE_LENGTH
        if isinstance(one, msgspec.Struct):
            pending += msgspec.structs.astuple(one)
        elif isinstance(one, tuple):
            room -= len(one)
            pending += one if room >= 0 else ()
        if room < 0:
            return False
    return True
