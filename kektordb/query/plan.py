"""How is a filter evaluated? The steps of a plan: each adds the rows it matches to a bitmap, and can explain itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb.errors import FilterError
from kektordb.markup import plan_html
from kektordb.query.words import Texts, estimate_words, has_phrases, match_words

__all__ = ["AllOf", "AnyOf", "Complement", "Deferred", "Explanation", "Plan", "Probe", "Source", "Step", "WordProbe"]

Params = Mapping[str, object]

_CALLS = ("EXISTS", "CONTAINS", "CONTAINS_ALL")


class Source(NamedTuple):
    """What a plan is run on; `texts` is None in an index without analyzer."""

    columns: Columns
    n_slots: int
    texts: Texts | None


class Explanation(msgspec.Struct, frozen=True):
    """One step of a plan that was run, and the steps under it in the order of execution.

    Attributes
    ----------
    operator : str
        ``AND``, ``OR``, ``NOT`` or that of a condition, such as ``<`` or ``LIKE 'a%'``.
    field : str or None
        The field that a condition looks at.
    operand : str
        What it is compared with, for people.
    estimated, actual : int
        Rows that were expected and rows that were found (among the live ones, where these were given).
    """

    operator: str
    field: str | None
    operand: str
    estimated: int
    actual: int
    children: tuple[Explanation, ...] = ()

    def __str__(self) -> str:
        lines: list[str] = []
        self._write(lines, 0)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return plan_html(self)

    def describe(self) -> str:
        """Return the step in words, without those under it and without numbers."""
        if self.operator in _CALLS:
            return f"{self.operator}({', '.join(part for part in (self.field, self.operand) if part)})"
        return " ".join(part for part in (self.field, self.operator, self.operand) if part)

    def _write(self, lines: list[str], depth: int) -> None:
        lines.append(f"{'  ' * depth}{self.describe()}  (estimated {self.estimated:,} rows, found {self.actual:,})")
        for child in self.children:
            child._write(lines, depth + 1)


class Step(msgspec.Struct, frozen=True):
    """What all steps can do. The source must not change meanwhile: the caller holds the read lock.

    With `among`, only the rows in it are asked about; whether others are in the answer means nothing.
    """

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        """Set the bits of the matching rows; bits that are set stay set."""
        raise NotImplementedError

    def run(self, source: Source, among: Bitmap | None = None) -> Bitmap:
        """Return the matching rows in a new bitmap."""
        rows = Bitmap(source.n_slots)
        self.add_to(source, rows, among)
        return rows

    def estimate(self, source: Source) -> int:
        """Return about how many rows match, without looking at each."""
        raise NotImplementedError

    def bind(self, params: Params) -> Step:
        """Return the step with values in the place of parameters."""
        return self

    def is_bound(self) -> bool:
        """Tell whether the step can be run."""
        return True

    def is_slow(self) -> bool:
        """Tell whether the step reads what is stored of each row, so that it had better be asked about few."""
        return False

    def ordered(self, source: Source) -> tuple[Step, ...]:
        """Return the steps under this one, in the order in which it runs them."""
        return ()

    def describe(self) -> tuple[str, str | None, str]:
        """Return operator, field and operand for `Explanation`."""
        raise NotImplementedError


class Probe(Step, frozen=True):
    """One look-up in the columns.

    `lookup` is a method of `Columns` that takes the field, `arguments` and a bitmap to add to, or None to only count.
    """

    operator: str
    field: str
    operand: str
    lookup: Callable[..., int]
    arguments: tuple[Any, ...] = ()

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        self.lookup(source.columns, self.field, *self.arguments, rows)

    def estimate(self, source: Source) -> int:
        return min(self.lookup(source.columns, self.field, *self.arguments, None), source.n_slots)

    def describe(self) -> tuple[str, str | None, str]:
        return self.operator, self.field, self.operand


class WordProbe(Step, frozen=True):
    """A look-up of words in the text index.

    Attributes
    ----------
    all : bool
        Whether each of the words is wanted, or any.
    text, position
        The filter and the place in it, for errors.
    """

    field: str
    words: str
    operand: str
    all: bool
    text: str
    position: int

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        rows.ior(self.run(source, among))

    def run(self, source: Source, among: Bitmap | None = None) -> Bitmap:
        texts = self._texts_of(source)
        return match_words(source.columns, texts, self.field, self.words, self.all, source.n_slots, among)

    def estimate(self, source: Source) -> int:
        estimated = estimate_words(source.columns, self._texts_of(source), self.field, self.words, self.all)
        return min(estimated, source.n_slots)

    def _texts_of(self, source: Source) -> Texts:
        texts = source.texts
        if texts is None:
            what = 'an index that analyses texts: create it with text_language="english", for instance'
        elif not texts.is_indexed(self.field):
            what = f"a field that is searched for words: name {self.field!r} in text_fields when the index is created"
        else:
            return texts
        raise FilterError(f"CONTAINS needs {what}", self.text, self.position)

    def is_slow(self) -> bool:
        return has_phrases(self.words)

    def describe(self) -> tuple[str, str | None, str]:
        return "CONTAINS_ALL" if self.all else "CONTAINS", self.field, self.operand


class Complement(Step, frozen=True):
    """All rows but those of one step; with the rows that lack the field."""

    operand: Step

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        rows.ior(self.run(source, among))

    def run(self, source: Source, among: Bitmap | None = None) -> Bitmap:
        rows = self.operand.run(source, among)
        rows.invert()
        return rows

    def estimate(self, source: Source) -> int:
        return max(0, source.n_slots - self.operand.estimate(source))

    def bind(self, params: Params) -> Step:
        return Complement(self.operand.bind(params))

    def is_bound(self) -> bool:
        return self.operand.is_bound()

    def is_slow(self) -> bool:
        return self.operand.is_slow()

    def ordered(self, source: Source) -> tuple[Step, ...]:
        return (self.operand,)

    def describe(self) -> tuple[str, str | None, str]:
        return "NOT", None, ""


class AllOf(Step, frozen=True):
    """The rows that all steps match; the one that promises the fewest goes first, and none goes on with nothing.

    Steps that read texts come last, and are asked about what is left.
    """

    operands: tuple[Step, ...]

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        rows.ior(self.run(source, among))

    def run(self, source: Source, among: Bitmap | None = None) -> Bitmap:
        first, *rest = self.ordered(source)
        rows = first.run(source, among)
        for step in rest:
            if rows.is_empty():
                break
            if isinstance(step, Complement):
                rows.iandnot(step.operand.run(source, rows))
            else:
                rows.iand(step.run(source, rows))
        return rows

    def estimate(self, source: Source) -> int:
        return min([step.estimate(source) for step in self.operands])

    def bind(self, params: Params) -> Step:
        return AllOf(tuple([step.bind(params) for step in self.operands]))

    def is_bound(self) -> bool:
        return all(step.is_bound() for step in self.operands)

    def is_slow(self) -> bool:
        return any(step.is_slow() for step in self.operands)

    def ordered(self, source: Source) -> tuple[Step, ...]:
        estimated = [(step.is_slow(), step.estimate(source), at) for at, step in enumerate(self.operands)]
        estimated.sort()
        return tuple([self.operands[at] for *_, at in estimated])

    def describe(self) -> tuple[str, str | None, str]:
        return "AND", None, ""


class AnyOf(Step, frozen=True):
    """The rows that some step matches."""

    operands: tuple[Step, ...]

    def add_to(self, source: Source, rows: Bitmap, among: Bitmap | None = None) -> None:
        for step in self.operands:
            step.add_to(source, rows, among)

    def estimate(self, source: Source) -> int:
        return min(source.n_slots, sum([step.estimate(source) for step in self.operands]))

    def bind(self, params: Params) -> Step:
        return AnyOf(tuple([step.bind(params) for step in self.operands]))

    def is_bound(self) -> bool:
        return all(step.is_bound() for step in self.operands)

    def is_slow(self) -> bool:
        return any(step.is_slow() for step in self.operands)

    def ordered(self, source: Source) -> tuple[Step, ...]:
        return self.operands

    def describe(self) -> tuple[str, str | None, str]:
        return "OR", None, ""


class Deferred(Step, frozen=True):
    """A condition that waits for its parameters."""

    make: Callable[[Params], Step]

    def bind(self, params: Params) -> Step:
        return self.make(params)

    def is_bound(self) -> bool:
        return False


class Plan(msgspec.Struct, frozen=True, eq=False):
    """A compiled filter. Immutable: threads share it, and so do indexes. Equal to itself only, and hashed so.

    Attributes
    ----------
    root : Step
    is_bound : bool
        Whether it runs without parameters.
    is_kept : bool
        Whether the same filter will give this very plan again, so that its matches are worth keeping.
    ranks : bool
        Whether it has `ranking_words`.
    """

    root: Step
    is_bound: bool
    is_kept: bool = False
    ranks: bool = False

    def run(self, columns: Columns, n_slots: int, params: Params | None = None, texts: Texts | None = None) -> Bitmap:
        """Return the matching rows in a new bitmap of `n_slots` bits.

        NOT and ``!=`` complement over all slots, those that hold nothing alive included: AND the result with what is
        alive. Raises FilterError for a parameter that is missing or of a wrong type, and for CONTAINS without `texts`.
        """
        return self._bound(params).run(Source(columns, n_slots, texts))

    def estimate(self, columns: Columns, n_slots: int, params: Params | None = None, texts: Texts | None = None) -> int:
        """Return about how many slots match; cheap."""
        return self._bound(params).estimate(Source(columns, n_slots, texts))

    def explain(
        self,
        columns: Columns,
        n_slots: int,
        params: Params | None = None,
        alive: Bitmap | None = None,
        texts: Texts | None = None,
    ) -> Explanation:
        """Run every step on its own and return what each was expected to match and did match (and is `alive`)."""
        return _explain(self._bound(params), Source(columns, n_slots, texts), alive)

    def ranking_words(self, params: Params | None = None) -> list[tuple[str, str]]:
        """Return field and words of each CONTAINS that every match fulfils: one that stands alone or under AND."""
        if not self.ranks:
            return []
        root = self._bound(params)
        steps = root.operands if isinstance(root, AllOf) else (root,)
        return [(step.field, step.words) for step in steps if isinstance(step, WordProbe)]

    def _bound(self, params: Params | None) -> Step:
        return self.root if self.is_bound else self.root.bind({} if params is None else params)


def _explain(step: Step, source: Source, alive: Bitmap | None) -> Explanation:
    operator, field, operand = step.describe()
    rows = step.run(source)
    return Explanation(
        operator,
        field,
        operand,
        step.estimate(source),
        rows.count() if alive is None else rows.count_and(alive),
        tuple([_explain(child, source, alive) for child in step.ordered(source)]),
    )
