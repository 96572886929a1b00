"""What does the text of a filter mean? From text to tree; the only place that knows lark."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any, NoReturn

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
)
from kektordb.query.operand import value_of

if TYPE_CHECKING:
    from lark import Lark, Token

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "parse"]

MAX_LENGTH = 64 * 1024
MAX_DEPTH = 100

_SPELLINGS = {
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
_built: Lark | None = None
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


def _lark() -> Lark:
    """Return the parser, built at the first call (25 ms); two threads that come first may both build one."""
    global _built
    if _built is None:
        from lark import Lark

        grammar = resources.files("kektordb.query").joinpath("grammar.lark").read_text("utf-8")
        _built = Lark(grammar, parser="lalr", lexer="contextual", transformer=_TreeBuilder(), maybe_placeholders=False)
    return _built


class _TreeBuilder:
    """Makes our nodes while the parser reduces; each method is named after a rule and gets what it consists of."""

    def disjunction(self, operands: list[Node]) -> Node:
        return Or(tuple([flat for o in operands for flat in (o.operands if isinstance(o, Or) else (o,))]))

    def conjunction(self, operands: list[Node]) -> Node:
        return And(tuple([flat for o in operands for flat in (o.operands if isinstance(o, And) else (o,))]))

    def negated(self, parts: tuple[Token, Node]) -> Node:
        return Not(parts[1])

    def group(self, parts: tuple[Token, Node, Token]) -> Node:
        return parts[1]

    def compare(self, parts: tuple[str, Token, Operand]) -> Node:
        field, operator, operand = parts
        return Compare(field, _SPELLINGS[operator], operand)

    def in_list(self, parts: list[Any]) -> Node:
        field, keyword, _open, *operands, _close = parts
        return _negated_if("NOT_IN", keyword, In(field, tuple(operands)))

    def in_parameter(self, parts: tuple[str, Token, Token]) -> Node:
        field, keyword, name = parts
        return _negated_if("NOT_IN", keyword, In(field, _parameter(name)))

    def between(self, parts: tuple[str, Token, Operand, Operand]) -> Node:
        field, keyword, low, high = parts
        return _negated_if("NOT_BETWEEN", keyword, Between(field, low, high))

    def like(self, parts: tuple[str, Token, Operand]) -> Node:
        field, keyword, pattern = parts
        return _negated_if("NOT_LIKE", keyword, Like(field, pattern, str(keyword).upper().endswith("ILIKE")))

    def null(self, parts: tuple[str, Token]) -> Node:
        field, keyword = parts
        return _negated_if("IS_NOT_NULL", keyword, IsNull(field))

    def exists(self, parts: tuple[Token, Token, str, Token]) -> Node:
        return Exists(parts[2])

    def contains(self, parts: tuple[Token, Token, str, Operand, Token]) -> Node:
        keyword, _open, field, words, _close = parts
        return Contains(field, words, keyword.upper() == "CONTAINS_ALL", keyword.start_pos or 0)

    def field(self, parts: tuple[Token]) -> str:
        token = parts[0]
        return str(token) if token.type in ("FIELD", "CALL_FIELD") else _unquoted(token)

    call_field = existing = field

    def value(self, parts: tuple[Token]) -> Operand:
        token = parts[0]
        if token.type == "PARAM":
            return _parameter(token)
        if token.type in ("SINGLE_QUOTED", "DOUBLE_QUOTED"):
            return value_of(_unquoted(token), token.start_pos or 0)
        # Quotes at the end of a bare value were never part of it in the original either: size = 5"
        return value_of(str(token).rstrip("'\""), token.start_pos or 0)

    bound = item = value

    def words(self, parts: tuple[Token]) -> Operand:
        token = parts[0]
        # Quotes at the end may be those of a phrase.
        return value_of(str(token), token.start_pos or 0) if token.type == "WORDS" else self.value(parts)


def _negated_if(kind: str, keyword: Token, node: Node) -> Node:
    return Not(node) if keyword.type == kind else node


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
    "ilike": "; ILIKE takes a pattern",
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
