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


def compile_filter(filter: Filter) -> Plan:
    """Compile a filter to a plan; texts come from a cache of the last 1,024.

    Raises
    ------
    FilterError
        The filter does not parse, is too deep or too long, or asks for what this index does not have.
    """
    if isinstance(filter, str):
        return _compile_cached(filter) if len(filter) <= _CACHED_LENGTH else _compile(filter)
    if isinstance(filter, Expression):
        return make_plan(filter.node)
    if isinstance(filter, F):
        raise FilterError(f"{filter!r} is a field, not a filter: compare it, or ask exists()")
    return make_plan(filter)


def _compile(text: str) -> Plan:
    from kektordb.query.parser import parse

    return make_plan(parse(text), text)


_compile_cached = functools.lru_cache(maxsize=1024)(_compile)
