"""How are keys read and written over HTTP?"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from kektordb.server.calls import Call, Route
from kektordb.server.errors import HttpError
from kektordb.server.options import MAX_LISTED
from kektordb.server.replies import Keys, KeyValuePair, Status
from kektordb.server.structs import KeyValue

__all__ = ["ROUTES"]


def get_value(call: Call) -> KeyValuePair:
    """Return the value of a key."""
    key = call.args[0]
    value = call.service.database.kv.get(key)
    if value is None:
        raise HttpError(404, "key not found", "KeyError")
    return KeyValuePair(key, value if call.wants_msgpack else value.decode(errors="replace"))


def set_value(call: Call) -> Status:
    """Set a key."""
    value = call.body.value
    if not isinstance(value, str | bytes):
        raise HttpError(400, "invalid JSON: expected value to be a string", "ConfigError")
    call.service.database.kv[call.args[0]] = value
    return Status()


def delete_value(call: Call) -> Status:
    """Delete a key, if it is there."""
    with suppress(KeyError):
        del call.service.database.kv[call.args[0]]
    return Status()


def list_keys(call: Call) -> Keys:
    """List keys in order: those that begin with `prefix`, after the key `after`, at most `limit`."""
    prefix, after = call.query("prefix"), call.query("after")
    limit = call.query_int("limit", 1000, 1, MAX_LISTED)
    found = (key for key in call.service.database.kv.prefix(prefix) if key > after)
    keys = list(islice(found, limit + 1))
    return Keys(keys[:limit], keys[limit - 1]) if len(keys) > limit else Keys(keys)


ROUTES = (
    Route("GET", "/kv/{key}", get_value, gives=KeyValuePair),
    Route("POST", "/kv/{key}", set_value, takes=KeyValue, gives=Status, writes=True),
    Route("PUT", "/kv/{key}", set_value, takes=KeyValue, gives=Status, writes=True),
    Route("DELETE", "/kv/{key}", delete_value, gives=Status, writes=True),
    Route("GET", "/kv", list_keys, gives=Keys, threaded=True),
)
