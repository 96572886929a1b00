"""How do clients of later versions see items as nodes with properties?"""

from __future__ import annotations

import numpy as np

from kektordb import errors
from kektordb.server.calls import Call, Route
from kektordb.server.errors import HttpError
from kektordb.server.replies import NodeList, Properties, PropertiesOf
from kektordb.server.routes.items import check_keys
from kektordb.server.structs import Node, NodeProperties, Nodes

__all__ = ["ROUTES"]

DEFAULT_LIMIT = 10


def set_properties(call: Call) -> Properties:
    """Merge properties into the metadata of a node; one that is not there is made, with a vector of zeros."""
    body: NodeProperties = call.body
    index = call.service.index(body.index_name)
    if not body.node_id:
        raise HttpError(400, "missing fields: index_name or node_id", "ConfigError")
    properties = body.properties or {}
    check_keys([properties], call.service.limits)
    for _ in range(8):  # again when somebody else made or deleted it meanwhile
        try:
            index.update_metadata(body.node_id, properties)
            break
        except errors.ItemNotFound:
            if index.dim is None:
                raise HttpError(409, "the first item of an index needs a vector", "VectorError") from None
        try:
            index.add(body.node_id, np.zeros(index.dim, np.float32), properties)
            break
        except errors.ItemExists:
            continue
    item = index.get(body.node_id)
    return Properties(body.node_id, properties if item is None else item.metadata, "updated")


def get_properties(call: Call) -> Properties:
    """Return the properties of a node."""
    body: Node = call.body
    item = call.service.index(body.index_name or "").get(body.node_id)
    if item is None:
        raise HttpError(404, f"node '{body.node_id}' not found", "ItemNotFound")
    return Properties(body.node_id, item.metadata)


def search_nodes(call: Call) -> NodeList:
    """Return nodes whose properties match a filter."""
    body: Nodes = call.body
    index = call.service.index(body.index_name)
    limit = DEFAULT_LIMIT if body.limit is None or body.limit <= 0 else min(body.limit, call.service.limits.max_k)
    ids = index.ids(body.property_filter or None)[:limit]
    return NodeList([PropertiesOf(item.id, item.metadata) for item in index.get_many(ids) if item is not None])


ROUTES = (
    Route(
        "POST",
        "/graph/actions/set-node-properties",
        set_properties,
        takes=NodeProperties,
        gives=Properties,
        writes=True,
    ),
    Route("POST", "/graph/actions/get-node-properties", get_properties, takes=Node, gives=Properties),
    Route("POST", "/graph/actions/search-nodes", search_nodes, takes=Nodes, gives=NodeList, threaded=True),
)
