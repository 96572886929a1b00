"""KektorDB: an embedded vector database.

>>> import kektordb
>>> with kektordb.open(":memory:") as db:
...     shoes = db.create_index("shoes", metric="euclidean")
...     shoes.add("red", [1.0, 0.0], {"price": 40})
...     [hit.id for hit in shoes.search([1.0, 0.1], k=1, filter="price < 50")]
['red']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kektordb import errors
from kektordb.errors import *  # noqa: F403

if TYPE_CHECKING:
    from kektordb import aio as aio
    from kektordb.database import Database, open
    from kektordb.index import Index
    from kektordb.query import F
    from kektordb.remote.asynchronous import connect_async
    from kektordb.remote.database import connect
    from kektordb.results import Hit, Item, Results
    from kektordb.safety.backup import restore
    from kektordb.safety.checking import check
    from kektordb.safety.dumping import dump
    from kektordb.safety.repairing import repair
    from kektordb.safety.undumping import load
    from kektordb.tasks import Task
    from kektordb.upkeep.quality import RecallCheck

__version__ = "0.1.0"

__all__ = [
    *errors.__all__,
    "Database",
    "F",
    "Hit",
    "Index",
    "Item",
    "RecallCheck",
    "Results",
    "Task",
    "__version__",
    "build_info",
    "check",
    "connect",
    "connect_async",
    "dump",
    "load",
    "open",
    "repair",
    "restore",
]

# Loaded when it is first asked for: `kektordb --help` needs nothing of it, a client over HTTP little.
_LAZY = {
    "Database": "kektordb.database",
    "F": "kektordb.query",
    "Hit": "kektordb.results",
    "Index": "kektordb.index",
    "Item": "kektordb.results",
    "RecallCheck": "kektordb.upkeep.quality",
    "Results": "kektordb.results",
    "Task": "kektordb.tasks",
    "check": "kektordb.safety.checking",
    "connect": "kektordb.remote.database",
    "connect_async": "kektordb.remote.asynchronous",
    "dump": "kektordb.safety.dumping",
    "load": "kektordb.safety.undumping",
    "open": "kektordb.database",
    "repair": "kektordb.safety.repairing",
    "restore": "kektordb.safety.backup",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if name == "aio":
        return import_module("kektordb.aio")
    if module is None:
        raise AttributeError(f"module 'kektordb' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def build_info() -> dict[str, Any]:
    """Say what this build is and what was chosen for this machine.

    Returns
    -------
    dict
        ``version``, ``isa`` (kernel set: ``v2``, ``v3``, ``v4`` as in x86-64-v2, and ``v2`` for the baseline of other
        machines; the environment variable ``KEKTORDB_ISA`` asks for a lower one), ``openmp`` (whether batches use
        threads), ``compiler``.
    """
    from kektordb import _distance, _team

    return {
        "version": __version__,
        "isa": _distance.isa,
        "openmp": _team.openmp,
        "compiler": _distance.compiler,
    }
