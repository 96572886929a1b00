"""How is a filter that was built in Python written as text? For a server, which takes filters as text."""

from __future__ import annotations

from kektordb.errors import FilterError
from kektordb.query import ast
from kektordb.query.builder import Expression, F
from kektordb.query.parser import MAX_DEPTH

__all__ = ["text_of"]


def text_of(filter: Expression | ast.Node) -> str:
    """Return a text that is parsed to the same tree, but for the positions in it.

    Raises
    ------
    FilterError
        It is no filter, or nested too deep.
    """
    if isinstance(filter, F):
        raise FilterError(f"{filter!r} is a field, not a filter: compare it, or ask exists()")
    return _write(filter.node if isinstance(filter, Expression) else filter, 0)


def _write(node: object, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise FilterError(f"a filter may be {MAX_DEPTH} deep")
    match node:
        case ast.And(operands):
            return " AND ".join(_inner(one, depth) for one in operands)
        case ast.Or(operands):
            return " OR ".join(_inner(one, depth) for one in operands)
        case ast.Not(operand):
            return f"NOT {_inner(operand, depth)}"
        case ast.Contains(field, words):
            return f"{'CONTAINS_ALL' if node.all else 'CONTAINS'}({_field(field)}, {_operand(words)})"
        case ast.Exists(field):
            return f"EXISTS({_field(field)})"
        case _:
            return _condition(node)


def _condition(node: object) -> str:
    match node:
        case ast.Compare(field, operator, operand):
            return f"{_field(field)} {operator} {_operand(operand)}"
        case ast.Between(field, low, high):
            return f"{_field(field)} BETWEEN {_operand(low)} AND {_operand(high)}"
        case ast.Like(field, pattern):
            return f"{_field(field)} {'ILIKE' if node.in_any_case else 'LIKE'} {_operand(pattern)}"
        case ast.IsNull(field):
            return f"{_field(field)} IS NULL"
        case ast.In(field, ast.Param(name)):
            return f"{_field(field)} IN ${name}"
        case ast.In(field, ()):
            # The language has no empty list; nothing is both there and not there.
            return f"(EXISTS({_field(field)}) AND NOT EXISTS({_field(field)}))"
        case ast.In(field, tuple(operands)):
            return f"{_field(field)} IN ({', '.join(map(_operand, operands))})"
        case _:
            raise FilterError(f"expected a filter, got {type(node).__name__}")


def _inner(node: object, depth: int) -> str:
    text = _write(node, depth + 1)
    return f"({text})" if isinstance(node, ast.And | ast.Or | ast.Not) else text


def _field(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _operand(operand: object) -> str:
    if isinstance(operand, ast.Param):
        return f"${operand.name}"
    assert isinstance(operand, ast.Value)
    return "'" + operand.text.replace("\\", "\\\\").replace("'", "\\'") + "'"
