"""Which routes are there? One module for each family; each names its own."""

from kektordb.server.routes import graph, indexes, items, kv, nodes, replication, search, system, tasks

__all__ = ["ROUTES", "is_absent"]

# The most asked for first.
ROUTES = (
    *search.ROUTES,
    *items.ROUTES,
    *kv.ROUTES,
    *indexes.ROUTES,
    *tasks.ROUTES,
    *nodes.ROUTES,
    *graph.ROUTES,
    *system.ROUTES,
    *replication.ROUTES,
)

# What the original has for language models and agents: answered with 501 instead of 404.
ABSENT = (
    *(b"/rag", b"/sessions", b"/users", b"/compile", b"/artifact", b"/transfer", b"/events", b"/ui", b"/auth/"),
    *(b"/vector/actions/belief-assessment", b"/vector/actions/evolve", b"/vector/actions/get-evolution"),
    *(b"/vector/actions/reinforce", b"/graph/actions/"),
)


def is_absent(path: bytes) -> bool:
    """Tell whether the original has an answer to a path that has none here."""
    if path.startswith(ABSENT):
        return True
    return path.startswith(b"/vector/indexes/") and (b"/reflections" in path or b"/cognitive/" in path)
