"""How are links between items made and followed over HTTP?"""

from __future__ import annotations

from kektordb.server import edges as stored
from kektordb.server.calls import Call, Route
from kektordb.server.errors import HttpError
from kektordb.server.replies import (
    Connections,
    Edge,
    Graph,
    GraphNode,
    NodeRelations,
    Place,
    Sources,
    Status,
    Targets,
    Traversed,
    Walk,
)
from kektordb.server.routes.items import data_of
from kektordb.server.routes.search import node_of
from kektordb.server.structs import Connected, Incoming, Link, Outgoing, Path, Relations, Subgraph, Traverse

__all__ = ["ROUTES"]

MAX_PART_BYTES = 1024
DEFAULT_DEPTH = 5
SUBGRAPH_DEPTH = 2
MAX_DEPTH = 16


def link(call: Call) -> Status:
    """Make a link from one node to another, and with an inverse relation the one back."""
    body: Link = call.body
    _check(body.source_id, body.target_id, body.relation_type, body.inverse_relation_type or "-")
    call.service.edges.link(*_named(call, body))
    return Status(message="Link created")


def unlink(call: Call) -> Status:
    """Remove a link, if it is there."""
    body: Link = call.body
    _check(body.source_id, body.target_id, body.relation_type, body.inverse_relation_type or "-")
    call.service.edges.unlink(*_named(call, body))
    return Status(message="Link removed")


def get_links(call: Call) -> Targets:
    """Return where the links of a relation lead."""
    body: Outgoing = call.body
    _check(body.source_id, body.relation_type)
    space = _space(call, body.index_name)
    targets = call.service.edges.targets(space, body.source_id, body.relation_type)
    return Targets(body.source_id, body.relation_type, targets)


def get_connections(call: Call) -> Connections:
    """Return the items that the links of a relation lead to."""
    body: Connected = call.body
    _check(body.source_id, body.relation_type)
    index = call.service.index(body.index_name or "")
    targets = call.service.edges.targets(index.name, body.source_id, body.relation_type)
    return Connections([data_of(item) for item in index.get_many(targets) if item is not None])


def get_incoming(call: Call) -> Sources:
    """Return where the links of a relation come from."""
    body: Incoming = call.body
    _check(body.target_id, body.relation_type)
    space = _space(call, body.index_name)
    sources = call.service.edges.sources(space, body.target_id, body.relation_type)
    return Sources(body.target_id, body.relation_type, sources)


def get_all_relations(call: Call) -> NodeRelations:
    """Return by relation where all links of a node lead."""
    body: Relations = call.body
    _check(body.node_id)
    return NodeRelations(body.node_id, call.service.edges.outgoing(_space(call, body.index_name), body.node_id))


def get_all_incoming(call: Call) -> NodeRelations:
    """Return by relation where all links to a node come from."""
    body: Relations = call.body
    _check(body.node_id)
    return NodeRelations(body.node_id, call.service.edges.incoming(_space(call, body.index_name), body.node_id))


def find_path(call: Call) -> Walk:
    """Return a shortest way between two nodes, along links and against them."""
    body: Path = call.body
    _check(body.source_id, body.target_id)
    depth = _depth(body.max_depth, DEFAULT_DEPTH)
    found = call.service.edges.path(
        _space(call, body.index_name),
        body.source_id,
        body.target_id,
        body.relations or (),
        depth,
        call.service.limits.max_edges,
    )
    if found is None:
        raise HttpError(404, "path not found")
    return Walk(body.source_id, body.target_id, found.nodes, _edges(found))


def extract_subgraph(call: Call) -> Graph:
    """Return the nodes around a root, and the links between them."""
    body: Subgraph = call.body
    _check(body.root_id)
    index = call.service.index(body.index_name or "")
    depth = _depth(body.max_depth, SUBGRAPH_DEPTH)
    found = call.service.edges.walk(
        index.name, body.root_id, body.relations or (), depth, call.service.limits.max_edges
    )
    nodes = [
        Place(id, {} if item is None else item.metadata)
        for id, item in zip(found.nodes, index.get_many(found.nodes), strict=True)
    ]
    return Graph(body.root_id, nodes, _edges(found))


def traverse(call: Call) -> Traversed:
    """Follow ways of relations from a node; it comes back with what it is connected to, nested."""
    body: Traverse = call.body
    _check(body.source_id)
    index = call.service.index(body.index_name or "")
    root = node_of(index, body.source_id)
    n_left = call.service.limits.max_k
    for path in body.paths or []:
        relations = path.split(".")
        if len(relations) > MAX_DEPTH or not all(relations):
            raise HttpError(400, f"expected paths of 1 to {MAX_DEPTH} relations with dots between", "ConfigError")
        level: list[GraphNode] = [root]
        for relation in relations:
            following: list[GraphNode] = []
            for node in level:
                known = {other.id: other for other in node.connections.get(relation, [])}
                for target in call.service.edges.targets(index.name, node.id, relation):
                    if target not in known:
                        n_left -= 1
                        if n_left < 0:
                            raise HttpError(400, "these paths lead to too many nodes", "ConfigError")
                        known[target] = node_of(index, target)
                if known:
                    node.connections[relation] = list(known.values())
                following += known.values()
            level = following
    return Traversed(root)


def _edges(found: stored.Found) -> list[Edge]:
    return [Edge(*step) for step in found.steps]


def _space(call: Call, name: str | None) -> str:
    """Return the space of edges: that of an index, or the one of clients that name none."""
    return call.service.index(name).name if name else ""


def _named(call: Call, link: Link) -> tuple[str, str, str, str, str]:
    """Return what names a link: its space, where it comes from, relation, where it leads, inverse relation."""
    inverse = link.inverse_relation_type or ""
    return _space(call, link.index_name), link.source_id, link.relation_type, link.target_id, inverse


def _check(*parts: str) -> None:
    for part in parts:
        if not 1 <= len(part.encode()) <= MAX_PART_BYTES:
            raise HttpError(400, f"expected ids and relations of 1 to {MAX_PART_BYTES} bytes", "IdError")


def _depth(given: int | None, default: int) -> int:
    if given is None or given <= 0:
        return default
    return min(given, MAX_DEPTH)


def _reads(name: str, handler: object, takes: object, gives: object) -> Route:
    return Route("POST", f"/graph/actions/{name}", handler, takes=takes, gives=gives, threaded=True)  # type: ignore[arg-type]


ROUTES = (
    Route("POST", "/graph/actions/link", link, takes=Link, gives=Status, writes=True),
    Route("POST", "/graph/actions/unlink", unlink, takes=Link, gives=Status, writes=True),
    _reads("get-links", get_links, Outgoing, Targets),
    _reads("get-connections", get_connections, Connected, Connections),
    _reads("get-incoming", get_incoming, Incoming, Sources),
    _reads("get-all-relations", get_all_relations, Relations, NodeRelations),
    _reads("get-all-incoming", get_all_incoming, Relations, NodeRelations),
    _reads("find-path", find_path, Path, Walk),
    _reads("extract-subgraph", extract_subgraph, Subgraph, Graph),
    _reads("traverse", traverse, Traverse, Traversed),
)
