"""In which steps is a filter evaluated? From tree to plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from kektordb._columns import Columns
from kektordb.errors import FilterError
from kektordb.query.ast import (
    And,
    Between,
    Compare,
    Contains,
    Exists,
    In,
    IsNull,
    Like,
    Node,
    Not,
    Operand,
    Or,
    Param,
    Value,
)
from kektordb.query.operand import value_of_python
from kektordb.query.plan import AllOf, AnyOf, Complement, Deferred, Plan, Probe, Step, WordProbe

__all__ = ["MAX_DEPTH", "make_plan", "simplify"]

# Of trees made in Python. Text may nest 100 deep, and each level of it is at most an AND, an OR and a NOT.
MAX_DEPTH: Final = 300
_NO_PARAMS: Final[Mapping[str, object]] = {}
_SHOWN_VALUES: Final = 5
_OPERATORS: Final = ("=", "!=", "<", "<=", ">", ">=")

Condition = Compare | Between | In | Like | Exists | IsNull | Contains


def make_plan(node: Node, text: str = "") -> Plan:
    """Compile a filter.

    Parameters
    ----------
    node : Node
        The filter.
    text : str
        What it was parsed from, for errors.

    Raises
    ------
    FilterError
        The tree is too deep, or asks for something that has no meaning.
    """
    _check(node)
    simple = simplify(node)
    root = _step(simple, text)
    wanted = simple.operands if isinstance(simple, And) else (simple,)
    return Plan(root, root.is_bound(), ranks=any(isinstance(one, Contains) for one in wanted))


def _check(node: Node) -> None:
    pending: list[tuple[Node, int]] = [(node, 1)]
    while pending:
        current, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter may be {MAX_DEPTH} operators deep")
        if isinstance(current, And | Or):
            if not current.operands:
                raise FilterError(f"{type(current).__name__} without operands")
            pending.extend([(operand, depth + 1) for operand in current.operands])
        elif isinstance(current, Not):
            pending.append((current.operand, depth + 1))
        elif not isinstance(current, Condition):
            raise FilterError(f"expected a filter, got {type(current).__name__}")
        elif isinstance(current, Compare) and current.operator not in _OPERATORS:
            raise FilterError(f"expected one of {' '.join(_OPERATORS)}, got {current.operator!r}")


def simplify(node: Node, negated: bool = False) -> Node:
    """Push NOT down to the conditions, flatten AND and OR, drop repeated operands. Keeps the meaning."""
    if isinstance(node, Not):
        return simplify(node.operand, not negated)
    if isinstance(node, And | Or):
        kind = (Or if isinstance(node, And) else And) if negated else type(node)
        operands: dict[Node, None] = {}
        for operand in node.operands:
            simple = simplify(operand, negated)
            operands.update(dict.fromkeys(simple.operands if isinstance(simple, kind) else (simple,)))
        return kind(tuple(operands)) if len(operands) > 1 else next(iter(operands))
    if isinstance(node, Compare) and node.operator == "!=":
        node, negated = Compare(node.field, "=", node.operand), not negated
    return Not(node) if negated else node


def _step(node: Node, text: str) -> Step:
    if isinstance(node, And):
        return AllOf(tuple([_step(operand, text) for operand in node.operands]))
    if isinstance(node, Or):
        return AnyOf(tuple([_step(operand, text) for operand in node.operands]))
    if isinstance(node, Not):
        return Complement(_step(node.operand, text))
    if any(isinstance(operand, Param) for operand in _operands(node)):
        return Deferred(partial(_probe, node, text))
    return _probe(node, text, _NO_PARAMS)


def _operands(node: Condition) -> Iterable[Operand]:
    if isinstance(node, Compare):
        return (node.operand,)
    if isinstance(node, Between):
        return (node.low, node.high)
    if isinstance(node, In):
        return (node.operands,) if isinstance(node.operands, Param) else node.operands
    if isinstance(node, Contains):
        return (node.words,)
    return (node.pattern,) if isinstance(node, Like) else ()


def _probe(node: Condition, text: str, params: Mapping[str, object]) -> Step:
    """Make the look-up for one condition; FilterError when a parameter is missing or has a wrong type."""
    if isinstance(node, Compare):
        return _compare(node, text, params)
    if isinstance(node, Between):
        return _between(node, text, params)
    if isinstance(node, In):
        return _in(node, text, params)
    if isinstance(node, Like):
        pattern = _value(node.pattern, text, params)
        name, lookup = ("ILIKE", Columns.ilike) if node.in_any_case else ("LIKE", Columns.like)
        return Probe(name, node.field, _quoted(pattern.text), lookup, (pattern.text,))
    if isinstance(node, Contains):
        words = _value(node.words, text, params)
        return WordProbe(node.field, words.text, _quoted(words.text), node.all, text, node.position)
    if isinstance(node, Exists):
        return Probe("EXISTS", node.field, "", Columns.present)
    return _is_null(node.field)


def _is_null(field: str) -> Step:
    """Match null and missing: two look-ups, so that both are seen in an explanation."""
    null = Probe("IS", field, "null", Columns.equal, ((None,),))
    return AnyOf((null, Complement(Probe("EXISTS", field, "", Columns.present))))


def _compare(node: Compare, text: str, params: Mapping[str, object]) -> Step:
    given = _given(node.operand, text, params)
    if node.operator == "=":
        if given is None:
            return _is_null(node.field)
        value = _value(node.operand, text, params)
        return Probe("=", node.field, _shown(value), Columns.equal, (_meanings(value),))
    value = _value(node.operand, text, params)
    if value.flag is not None:
        raise FilterError("true and false have no order", text, node.operand.position)
    bound = value.text if value.number is None else value.number
    low, high = (None, bound) if node.operator in ("<", "<=") else (bound, None)
    includes = node.operator in ("<=", ">=")
    return Probe(node.operator, node.field, _shown(value), Columns.range, (low, high, includes, includes))


def _between(node: Between, text: str, params: Mapping[str, object]) -> Step:
    low, high = _value(node.low, text, params), _value(node.high, text, params)
    for value, operand in ((low, node.low), (high, node.high)):
        if value.flag is not None:
            raise FilterError("true and false have no order", text, operand.position)
    bounds: tuple[object, object] = (low.text, high.text)
    if low.number is not None and high.number is not None:
        bounds = (low.number, high.number)
    return Probe("BETWEEN", node.field, f"{_shown(low)} AND {_shown(high)}", Columns.range, (*bounds, True, True))


def _in(node: In, text: str, params: Mapping[str, object]) -> Step:
    operands = node.operands
    if isinstance(operands, Param):
        given = _given(operands, text, params)
        if hasattr(given, "tolist"):
            given = given.tolist()
        if not isinstance(given, list | tuple | set | frozenset):
            raise FilterError(
                f"expected a list for ${operands.name}, got {type(given).__name__}", text, operands.position
            )
        values = [None if one is None else value_of_python(one, text, operands.position) for one in given]
    else:
        values = [
            None if _given(operand, text, params) is None else _value(operand, text, params) for operand in operands
        ]
    meanings = tuple([meaning for value in values if value is not None for meaning in _meanings(value)])
    shown = [_shown(value) for value in values[:_SHOWN_VALUES] if value is not None]
    more = f", … {len(values)} in all" if len(values) > _SHOWN_VALUES else ""
    probe = Probe("IN", node.field, f"({', '.join(shown)}{more})", Columns.equal, (meanings,))
    return AnyOf((probe, _is_null(node.field))) if None in values else probe


def _meanings(value: Value) -> tuple[object, ...]:
    """Return the metadata values that equal a constant: the text, the number and the flag that it looks like."""
    return tuple([meaning for meaning in (value.text, value.number, value.flag) if meaning is not None])


def _given(operand: Operand, text: str, params: Mapping[str, object]) -> object:
    """Return a constant, or what a parameter is bound to."""
    if isinstance(operand, Value):
        return operand
    try:
        return params[operand.name]
    except KeyError:
        known = ", ".join(f"${name}" for name in list(params)[:20]) or "none"
        raise FilterError(
            f"no value for the parameter ${operand.name}; given: {known}", text, operand.position
        ) from None


def _value(operand: Operand, text: str, params: Mapping[str, object]) -> Value:
    given = _given(operand, text, params)
    return given if isinstance(given, Value) else value_of_python(given, text, operand.position)


def _shown(value: Value) -> str:
    return value.text if value.number is not None or value.flag is not None else _quoted(value.text)


def _quoted(text: str) -> str:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return "'" + shown.replace("'", "''") + "'"
