"""How is a filter evaluated? The steps of a plan: each adds the rows it matches to a bitmap, and can explain itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns

__all__ = ["AllOf", "AnyOf", "Complement", "Deferred", "Explanation", "Plan", "Probe", "Step"]

Params = Mapping[str, object]


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

    def _write(self, lines: list[str], depth: int) -> None:
        what = " ".join(part for part in (self.field, self.operator, self.operand) if part)
        if self.operator == "EXISTS":
            what = f"EXISTS({self.field})"
        lines.append(f"{'  ' * depth}{what}  (estimated {self.estimated:,} rows, found {self.actual:,})")
        for child in self.children:
            child._write(lines, depth + 1)


class Step(msgspec.Struct, frozen=True):
    """What all steps can do. `columns` must not change meanwhile: the caller holds the read lock."""

    def add_to(self, columns: Columns, rows: Bitmap) -> None:
        """Set the bits of the matching rows; bits that are set stay set."""
        raise NotImplementedError

    def run(self, columns: Columns, n_slots: int) -> Bitmap:
        """Return the matching rows in a new bitmap."""
        rows = Bitmap(n_slots)
        self.add_to(columns, rows)
        return rows

    def estimate(self, columns: Columns, n_slots: int) -> int:
        """Return about how many rows match, without looking at each."""
        raise NotImplementedError

    def bind(self, params: Params) -> Step:
        """Return the step with values in the place of parameters."""
        return self

    def is_bound(self) -> bool:
        """Tell whether the step can be run."""
        return True

    def ordered(self, columns: Columns, n_slots: int) -> tuple[Step, ...]:
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

    def add_to(self, columns: Columns, rows: Bitmap) -> None:
        self.lookup(columns, self.field, *self.arguments, rows)

    def estimate(self, columns: Columns, n_slots: int) -> int:
        return min(self.lookup(columns, self.field, *self.arguments, None), n_slots)

    def describe(self) -> tuple[str, str | None, str]:
        return self.operator, self.field, self.operand


class Complement(Step, frozen=True):
    """All rows but those of one step; with the rows that lack the field."""

    operand: Step

    def add_to(self, columns: Columns, rows: Bitmap) -> None:
        rows.ior(self.run(columns, rows.n_bits))

    def run(self, columns: Columns, n_slots: int) -> Bitmap:
        rows = self.operand.run(columns, n_slots)
        rows.invert()
        return rows

    def estimate(self, columns: Columns, n_slots: int) -> int:
        return max(0, n_slots - self.operand.estimate(columns, n_slots))

    def bind(self, params: Params) -> Step:
        return Complement(self.operand.bind(params))

    def is_bound(self) -> bool:
        return self.operand.is_bound()

    def ordered(self, columns: Columns, n_slots: int) -> tuple[Step, ...]:
        return (self.operand,)

    def describe(self) -> tuple[str, str | None, str]:
        return "NOT", None, ""


class AllOf(Step, frozen=True):
    """The rows that all steps match; the one that promises the fewest goes first, and none goes on with nothing."""

    operands: tuple[Step, ...]

    def add_to(self, columns: Columns, rows: Bitmap) -> None:
        rows.ior(self.run(columns, rows.n_bits))

    def run(self, columns: Columns, n_slots: int) -> Bitmap:
        first, *rest = self.ordered(columns, n_slots)
        rows = first.run(columns, n_slots)
        for step in rest:
            if rows.is_empty():
                break
            if isinstance(step, Complement):
                rows.iandnot(step.operand.run(columns, n_slots))
            else:
                rows.iand(step.run(columns, n_slots))
        return rows

    def estimate(self, columns: Columns, n_slots: int) -> int:
        return min([step.estimate(columns, n_slots) for step in self.operands])

    def bind(self, params: Params) -> Step:
        return AllOf(tuple([step.bind(params) for step in self.operands]))

    def is_bound(self) -> bool:
        return all(step.is_bound() for step in self.operands)

    def ordered(self, columns: Columns, n_slots: int) -> tuple[Step, ...]:
        estimated = [(step.estimate(columns, n_slots), at) for at, step in enumerate(self.operands)]
        estimated.sort()
        return tuple([self.operands[at] for _, at in estimated])

    def describe(self) -> tuple[str, str | None, str]:
        return "AND", None, ""


class AnyOf(Step, frozen=True):
    """The rows that some step matches."""

    operands: tuple[Step, ...]

    def add_to(self, columns: Columns, rows: Bitmap) -> None:
        for step in self.operands:
            step.add_to(columns, rows)

    def estimate(self, columns: Columns, n_slots: int) -> int:
        return min(n_slots, sum([step.estimate(columns, n_slots) for step in self.operands]))

    def bind(self, params: Params) -> Step:
        return AnyOf(tuple([step.bind(params) for step in self.operands]))

    def is_bound(self) -> bool:
        return all(step.is_bound() for step in self.operands)

    def ordered(self, columns: Columns, n_slots: int) -> tuple[Step, ...]:
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
    """

    root: Step
    is_bound: bool
    is_kept: bool = False

    def run(self, columns: Columns, n_slots: int, params: Params | None = None) -> Bitmap:
        """Return the matching rows in a new bitmap of `n_slots` bits.

        NOT and ``!=`` complement over all slots, those that hold nothing alive included: AND the result with what is
        alive. Raises FilterError for a parameter that is missing or of a wrong type.
        """
        return self._bound(params).run(columns, n_slots)

    def estimate(self, columns: Columns, n_slots: int, params: Params | None = None) -> int:
        """Return about how many slots match; cheap."""
        return self._bound(params).estimate(columns, n_slots)

    def explain(
        self, columns: Columns, n_slots: int, params: Params | None = None, alive: Bitmap | None = None
    ) -> Explanation:
        """Run every step on its own and return what each was expected to match and did match (and is `alive`)."""
        return _explain(self._bound(params), columns, n_slots, alive)

    def _bound(self, params: Params | None) -> Step:
        return self.root if self.is_bound else self.root.bind({} if params is None else params)


def _explain(step: Step, columns: Columns, n_slots: int, alive: Bitmap | None) -> Explanation:
    operator, field, operand = step.describe()
    rows = step.run(columns, n_slots)
    return Explanation(
        operator,
        field,
        operand,
        step.estimate(columns, n_slots),
        rows.count() if alive is None else rows.count_and(alive),
        tuple([_explain(child, columns, n_slots, alive) for child in step.ordered(columns, n_slots)]),
    )
