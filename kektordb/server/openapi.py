"""What does the interface look like to a machine? OpenAPI 3.1 of the route table and its structs, and a page of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from kektordb import __version__
from kektordb.server.calls import Route
from kektordb.server.replies import Failure
from kektordb.server.shapes import NEEDED_QUERIES, PARTS, QUERIES, describe_body
from kektordb.server.structs import Item

__all__ = ["PAGE", "describe"]

_REF = "#/components/schemas/{name}"
_VECTOR = {
    "description": "Numbers; or base64 of little-endian float32; in msgpack also the float32 themselves.",
    "oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}],
}
ERRORS = {
    "400": "The request is wrong; the text says where.",
    "401": "No token, or a wrong one.",
    "403": "The token may only read, or the database is read-only.",
    "404": "There is no such thing.",
    "409": "There is such a thing already; of followers, that they do not belong here.",
    "410": "Of followers: the records are in no log any more.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "421": "The server is not known under the name in the Host header.",
    "501": "The original has this; it is not served here.",
    "503": "Too many requests at a time.",
    "507": "No room is left for writes.",
}
KINDS = ("application/json", "application/msgpack")
# What is no HTTP is answered before there is a route.
PLAIN = ("400", "401")


def describe(routes: Sequence[Route]) -> bytes:
    """Return the OpenAPI document of `routes` as JSON."""
    types = {type_ for route in routes for type_ in (route.takes, *_given(route)) if type_ is not None}
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, schema_hook=_schema, ref_template=_REF)
    schema_of = dict(zip(ordered, schemas, strict=True))
    for kind in {route.takes for route in routes if route.takes is not None} | {Item}:
        if isinstance(kind, type):
            components[kind.__name__] = describe_body(kind, components[kind.__name__])
        else:
            schema_of[kind] = describe_body(kind, schema_of[kind])
    failure, more = msgspec.json.schema_components([Failure], ref_template=_REF)
    components = {**components, **more}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of, failure[0])
    document = {
        "openapi": "3.1.0",
        "info": {"title": "KektorDB", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }
    return msgspec.json.encode(document)


def _operation(route: Route, schema_of: dict[Any, Any], failure: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": PARTS[name]} for name in names]
    parameters += [
        {"name": name, "in": "query", "required": (route.path, name) in NEEDED_QUERIES, "schema": schema}
        for name, schema in QUERIES.get(route.path, {}).items()
    ]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{re.sub('[^a-z]+', '_', route.path.lower()).strip('_')}",
        "tags": [route.path.split("/")[1]],
        "responses": {str(route.status): _answer(route, schema_of)},
    }
    if route.is_open:
        operation["security"] = []
    for status, text in ERRORS.items():
        content = {kind: {"schema": failure} for kind in KINDS if status != "401"}
        if status in PLAIN:
            content["text/plain"] = {"schema": {"type": "string"}}
        operation["responses"][status] = {"description": text, "content": content}
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        content = {kind: {"schema": schema_of[route.takes]} for kind in KINDS}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "It was done."}
    schemas = [schema_of[type_] for type_ in _given(route)]
    if schemas:
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        answer["content"] = {kind: {"schema": schema} for kind in KINDS}
    return answer


def _given(route: Route) -> tuple[Any, ...]:
    return route.gives if isinstance(route.gives, tuple) else () if route.gives is None else (route.gives,)


def _schema(type_: type) -> dict[str, Any]:
    if type_ is np.ndarray:
        return _VECTOR
    raise NotImplementedError(f"no schema of {type_}")


PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>KektorDB: the HTTP interface</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  summary { cursor: pointer; padding: .3rem 0; } code, pre, textarea { font: 13px/1.4 ui-monospace, monospace; }
  pre, textarea { background: #8881; padding: .6rem; overflow: auto; width: 100%; box-sizing: border-box; border: 0; }
  b { display: inline-block; width: 4.5rem; } details { border-bottom: 1px solid #8884; }
  small { opacity: .7; margin-left: .6rem; } input { width: 20rem; } :root { color-scheme: light dark; }
</style>
<h1>KektorDB</h1>
<p>Token: <input id="token" type="password" autocomplete="off"> <a href="openapi.json">openapi.json</a></p>
<div id="routes">The description is loaded.</div>
<script>
"use strict";
const token = document.getElementById("token"), routes = document.getElementById("routes");
const element = (name, text) => { const e = document.createElement(name); if (text) e.textContent = text; return e; };
const headers = () => token.value ? { authorization: "Bearer " + token.value } : {};
const example = (schema, all) => {
  if (schema.$ref) return example(all[schema.$ref.split("/").pop()], all);
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  const one = (schema.anyOf || schema.oneOf || [])[0];
  if (one) return example(one, all);
  if (schema.properties) return Object.fromEntries(
    Object.entries(schema.properties).map(([name, inner]) => [name, example(inner, all)]));
  return { array: [], object: {}, integer: 0, number: 0, boolean: false, string: "" }[schema.type] ?? null;
};
const show = (path, method, operation, all) => {
  const box = element("details"), head = element("summary");
  head.append(element("b", method.toUpperCase()), element("code", path), element("small", operation.summary));
  const address = element("input"), send = element("button", "Send"), answer = element("pre");
  address.value = path; box.append(head, address);
  let body = null;
  if (operation.requestBody) {
    body = element("textarea"); body.rows = 8;
    body.value = JSON.stringify(example(operation.requestBody.content["application/json"].schema, all), null, 1);
    box.append(body);
  }
  send.onclick = async () => {
    const got = await fetch(address.value.slice(1), { method, headers: headers(), body: body && body.value });
    answer.textContent = got.status + "\\n" + await got.text();
  };
  box.append(send, answer);
  return box;
};
const load = async () => {
  const got = await fetch("openapi.json", { headers: headers() });
  if (!got.ok) { routes.textContent = "A token is needed."; return; }
  const api = await got.json();
  routes.replaceChildren();
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      routes.append(show(path, method, operation, api.components.schemas));
};
token.onchange = load;
load();
</script>
</html>
"""
