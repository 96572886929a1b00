"""What does the text of a filter mean? From text to tree; the only place that knows lark."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, NoReturn

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
    Operator,
    Or,
    Param,
)
from kektordb.query.operand import value_of

if TYPE_CHECKING:
    from lark import Lark, Token

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "parse"]

MAX_LENGTH = 64 * 1024
MAX_DEPTH = 100

_SPELLINGS: dict[str, Operator] = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_ESCAPED = re.compile(r"\\(['\"\\])")
_WORD = re.compile(r"[()]|[^\s()]+")


def parse(text: str) -> Node:
    """Parse a filter.

    Raises
    ------
    FilterError
        With the position of what is wrong, what was expected there and what came.
    """
    from lark.exceptions import UnexpectedInput

    if len(text) > MAX_LENGTH:
        raise FilterError(
            f"a filter may have {MAX_LENGTH:,} characters, this one has {len(text):,}; "
            "long lists fit in a parameter: IN $names",
            text,
            MAX_LENGTH,
        )
    nesting = _Nesting(text)
    interactive = _lark().parse_interactive(text)
    token: Token | None = None
    try:
        for token in interactive.iter_parse():
            nesting.follow(token)
        node: Node = interactive.feed_eof(token)  # type: ignore[no-untyped-call]
    except UnexpectedInput as error:
        _explain(error, text, nesting)
    return node


class _Nesting:
    """Counts open parentheses and NOTs while tokens go by, so that no tree can become too deep to walk."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.open: list[Token] = []
        self.last: Token | None = None
        self.closed: Token | None = None
        self.negations = [0]  # NOTs that wait for their operand, by level

    def follow(self, token: Token) -> None:
        kind = token.type
        self.last, self.closed = token, None
        if kind == "LPAR":
            self.open.append(token)
            self.negations.append(0)
        elif kind == "RPAR" and self.open:
            self.closed = self.open.pop()
            self.negations.pop()
        elif kind == "NOT":
            self.negations[-1] += 1
        elif kind in ("_AND", "_OR"):
            self.negations[-1] = 0
        if kind in ("LPAR", "NOT") and len(self.open) + sum(self.negations) > MAX_DEPTH:
            raise FilterError(f"parentheses and NOT may be {MAX_DEPTH} deep", self.text, token.start_pos or 0)


@functools.lru_cache(maxsize=1)
def _lark() -> Lark:
    from lark import Lark

    grammar = resources.files("kektordb.query").joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_tree_builder(), maybe_placeholders=False)


def _tree_builder() -> object:
    from lark import Transformer, v_args

    @v_args(inline=True)
    class TreeBuilder(Transformer):  # type: ignore[type-arg]
        """Makes our nodes; each method is named after a rule of the grammar."""

        def disjunction(self, *operands: Node) -> Node:
            return Or(tuple(flat for o in operands for flat in (o.operands if isinstance(o, Or) else (o,))))

        def conjunction(self, *operands: Node) -> Node:
            return And(tuple(flat for o in operands for flat in (o.operands if isinstance(o, And) else (o,))))

        def negated(self, _keyword: Token, operand: Node) -> Node:
            return Not(operand)

        def group(self, _open: Token, operand: Node, _close: Token) -> Node:
            return operand

        def compare(self, field: str, operator: Token, operand: Operand) -> Node:
            return Compare(field, _SPELLINGS[operator], operand)

        def in_list(self, field: str, keyword: Token, _open: Token, *rest: Operand | Token) -> Node:
            found = In(field, rest[:-1])  # type: ignore[arg-type]  # the last one is the closing parenthesis
            return Not(found) if keyword.type == "NOT_IN" else found

        def in_parameter(self, field: str, keyword: Token, name: Token) -> Node:
            found = In(field, _parameter(name))
            return Not(found) if keyword.type == "NOT_IN" else found

        def between(self, field: str, keyword: Token, low: Operand, high: Operand) -> Node:
            found = Between(field, low, high)
            return Not(found) if keyword.type == "NOT_BETWEEN" else found

        def like(self, field: str, keyword: Token, pattern: Operand) -> Node:
            found = Like(field, pattern)
            return Not(found) if keyword.type == "NOT_LIKE" else found

        def null(self, field: str, keyword: Token) -> Node:
            found = IsNull(field)
            return Not(found) if keyword.type == "IS_NOT_NULL" else found

        def exists(self, _keyword: Token, _open: Token, field: str, _close: Token) -> Node:
            return Exists(field)

        def contains(self, keyword: Token, _open: Token, field: str, words: Operand, _close: Token) -> Node:
            return Contains(field, words, keyword.start_pos or 0)

        def field(self, token: Token) -> str:
            return str(token) if token.type in ("FIELD", "CALL_FIELD") else _unquoted(token)

        call_field = field
        existing = field

        def value(self, token: Token) -> Operand:
            if token.type == "PARAM":
                return _parameter(token)
            if token.type in ("SINGLE_QUOTED", "DOUBLE_QUOTED"):
                return value_of(_unquoted(token), token.start_pos or 0)
            # Quotes at the end of a bare value were never part of it in the original either: size = 5"
            return value_of(str(token).rstrip("'\""), token.start_pos or 0)

        bound = value
        item = value

    return TreeBuilder()


def _parameter(token: Token) -> Param:
    return Param(str(token)[1:], token.start_pos or 0)


def _unquoted(token: Token) -> str:
    quote, inner = token[0], token[1:-1]
    if quote == "`":
        return inner.replace("``", "`")
    # One pass over pairs: an escaped backslash must not escape what follows it.
    pattern = _DOUBLED[quote]
    return pattern.sub(lambda match: match[1] or quote, inner)


_QUOTED = {"'": "SINGLE_QUOTED", '"': "DOUBLE_QUOTED", "`": "BACK_QUOTED"}
_DOUBLED = {quote: re.compile(rf"{_ESCAPED.pattern}|{quote}{quote}") for quote in "'\""}

# What may come next, in human words: the first group that shares a terminal with the parser's own list is named.
_EXPECTATIONS = [
    ({"FIELD"}, "a condition such as price < 50"),
    ({"CALL_FIELD"}, "the name of a field"),
    ({"EQUALITY"}, "an operator after the field, such as =, <, IN, LIKE or IS NULL"),
    ({"WORDS", "BOUND_WORDS", "ITEM_WORDS"}, "a value"),
    ({"PARAM"}, "a list in parentheses or a parameter"),
    ({"LPAR"}, "an opening parenthesis"),
]
# Words that were taken for a part of the field because what they need did not follow.
_HINTS = {
    "in": "; IN takes a list in parentheses or a parameter",
    "like": "; LIKE takes a pattern",
    "between": "; BETWEEN takes two bounds",
    "is": "; IS is followed by NULL or NOT NULL",
}


def _explain(error: Exception, text: str, nesting: _Nesting) -> NoReturn:
    token: Token | None = getattr(error, "token", None)
    position = getattr(error, "pos_in_stream", None)
    if position is None or position < 0 or (token is not None and token.type == "$END"):
        position = len(text)
    while position < len(text) and text[position].isspace():
        position += 1
    if token is not None and token.type == "RPAR" and nesting.closed is not None:
        nesting.open.append(nesting.closed)  # it closed nothing: it was not expected
    expected: set[str] = set(getattr(error, "allowed", None) or getattr(error, "expected", None) or ())
    found = _WORD.match(text, position)
    if found is not None and _QUOTED.get(text[position]) in expected:
        raise FilterError(f"this {text[position]} is never closed", text, position) from None
    if not text.strip():
        raise FilterError(f"expected {_wanted(expected, '', nesting)}, got an empty filter") from None
    came = "the end of the filter"
    if found is not None:
        came = f"'{found[0]}'" if len(found[0]) <= 30 else f"'{found[0][:27]}...'"
    hint = _hint(nesting.last) if "EQUALITY" in expected else ""
    raise FilterError(f"expected {_wanted(expected, came, nesting)}, got {came}{hint}", text, position) from None


def _wanted(expected: set[str], came: str, nesting: _Nesting) -> str:
    for terminals, words in _EXPECTATIONS:
        if expected & terminals:
            return words
    if "_COMMA" in expected and "RPAR" not in expected:
        return "',' and the words to look for"
    if nesting.open:
        closing = f"the ')' for the '(' at character {(nesting.open[-1].start_pos or 0) + 1}"
        if expected == {"RPAR"}:
            return closing
        return f"',' or {closing}" if "_COMMA" in expected else f"AND, OR or {closing}"
    if "_AND" in expected and "_OR" not in expected:
        return "AND and the upper bound of BETWEEN"
    if came == "')'":
        return "AND, OR or the end of the filter (no parenthesis is open here)"
    return "AND, OR or the end of the filter"


def _hint(field: Token | None) -> str:
    words = str(field or "").lower().split()[1:]
    return next((_HINTS[word] for word in words if word in _HINTS), "")
