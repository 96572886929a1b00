"""What is a request on its way to its handler, and what comes back?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from kektordb.server.encodings import decode_hook
from kektordb.server.errors import HttpError

if TYPE_CHECKING:
    from kektordb.index import Index
    from kektordb.server.service import Service

__all__ = ["MAX_SECONDS", "Call", "Handler", "Raw", "Reply", "Route", "Table"]


MAX_SECONDS = 1e6


class Raw(msgspec.Struct, frozen=True):
    """An answer that is not encoded any more."""

    body: bytes
    content_type: bytes


class Reply(msgspec.Struct, frozen=True):
    """An answer with another status than 200."""

    status: int
    value: Any = None


class Call:
    """One request.

    Attributes
    ----------
    service : Service
    route : Route
    args : tuple of str
        What the path holds.
    query_string : bytes
    body : Any
        A struct of `route.takes`, after it was decoded.
    sends_msgpack, wants_msgpack : bool
    """

    __slots__ = ("_index", "args", "body", "query_string", "route", "sends_msgpack", "service", "wants_msgpack")

    def __init__(self, service: Service, route: Route, args: tuple[str, ...], query_string: bytes) -> None:
        self.service = service
        self.route = route
        self.args = args
        self.query_string = query_string
        self.sends_msgpack = False
        self.wants_msgpack = False
        self.body: Any = None
        self._index: Index | None = None

    def again(self) -> Call:
        """Return a call that the same head begins, without a body."""
        call = Call(self.service, self.route, self.args, self.query_string)
        call.sends_msgpack, call.wants_msgpack = self.sends_msgpack, self.wants_msgpack
        return call

    def index(self, name: str) -> Index:
        """Return the index that it is about; see `Service.index`. All that ask for one ask for the same."""
        index = self._index
        if index is None:
            index = self._index = self.service.index(name)
        return index

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the URL."""
        if not self.query_string:
            return default
        try:
            values = parse_qs(
                self.query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
            )
        except ValueError:
            raise HttpError(400, "invalid query string") from None
        return values.get(name, [default])[-1]

    def query_int(self, name: str, default: int, low: int, high: int) -> int:
        """Return a number of the URL."""
        text = self.query(name, str(default))
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise HttpError(400, f"expected {name} to be an integer from {low} to {high}")
        return int(text)

    def query_seconds(self, name: str) -> float:
        """Return a time of the URL; 0 when there is none."""
        text = self.query(name, "0")
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", text) or float(text) > MAX_SECONDS:
            raise HttpError(400, f"expected {name} in seconds")
        return float(text)


Handler = Callable[[Call], Any]


class Route:
    """A method and path with what answers it.

    Parameters
    ----------
    method : str
    path : str
        ``{name}`` is a part of the path; the last one takes the rest, slashes as well.
    handler : callable
        Takes the `Call`, returns a struct, a `Reply` or `Raw`.
    takes : type, optional
        The struct of the body; a body is read only then.
    gives : type or tuple of types, optional
        The struct of the answer, for its description; several when it depends on the request.
    status : int
        Of the answer, for its description.
    writes : bool
        A token for reading is not enough, and it runs in a thread.
    threaded : bool or callable
        Whether it runs in a thread; a function decides by the call.
    aliases : sequence of str
        Other paths.
    is_open : bool
        No token is asked for.
    holds : callable, optional
        Tells for how many seconds more a call is to be held back at most, after so many that it was; 0 when there is
        something for it.
    streams : bool
        The handler returns a function that is given `write`, and hands its answer over piece by piece.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        takes: Any = None,
        gives: Any = None,
        status: int = 200,
        writes: bool = False,
        threaded: bool | Callable[[Call], bool] = False,
        aliases: Sequence[str] = (),
        is_open: bool = False,
        holds: Callable[[Call, float], float] | None = None,
        streams: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.takes = takes
        self.gives = gives
        self.status = status
        self.writes = writes
        self.threaded = threaded or writes or streams or holds is not None
        self.aliases = tuple(aliases)
        self.is_open = is_open
        self.holds = holds
        self.streams = streams
        self.from_json = self.from_msgpack = None
        if takes is not None:
            self.from_json = msgspec.json.Decoder(takes, dec_hook=decode_hook).decode
            self.from_msgpack = msgspec.msgpack.Decoder(takes, dec_hook=decode_hook).decode

    @property
    def summary(self) -> str:
        """What it does, in one sentence."""
        return (self.handler.__doc__ or "").partition("\n")[0]


class Table:
    """Finds the route of a request.

    Parameters
    ----------
    routes : sequence of Route
        Those with parts are tried in this order.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[bytes, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[bytes], dict[str, Route]]] = []
        of_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            for path in (route.path, *route.aliases):
                if path not in of_path:
                    methods: dict[str, Route] = {}
                    of_path[path] = methods
                    if "{" in path:
                        self._patterns.append((_pattern(path), methods))
                    else:
                        self._exact[path.encode()] = methods
                of_path[path][route.method] = route
                if route.method == "GET":
                    of_path[path]["HEAD"] = route

    def is_quick(self, method: str, path: bytes) -> bool:
        """Tell whether a request may run without a thread; of paths without parts alone."""
        methods = self._exact.get(path)
        route = None if methods is None else methods.get(method)
        return route is not None and route.threaded is not True and method != "HEAD"

    def find(self, method: str, path: bytes) -> tuple[Route, tuple[str, ...]]:
        """Return the route of a method and path, percent-encoded as it came, and the decoded parts of the path.

        Raises HttpError: 404 for a path that is not there, 405 for a method that it does not know, 400 for parts that
        are no text.
        """
        methods = self._exact.get(path)
        parts: tuple[bytes, ...] = ()
        if methods is None:
            for pattern, candidates in self._patterns:
                found = pattern.fullmatch(path)
                if found is not None:
                    methods, parts = candidates, found.groups()
                    break
            else:
                raise HttpError(404, "404 page not found", plain=True)
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(methods)).encode()
            raise HttpError(405, "Method Not Allowed", plain=True, headers=((b"allow", allowed),))
        return route, tuple([unquote_to_bytes(part).decode() for part in parts]) if parts else ()


def _pattern(path: str) -> re.Pattern[bytes]:
    """Return what matches a path. All parts may hold slashes; those before the last are as short as they can be."""
    pieces = re.split(r"\{\w+\}", path)
    n = len(pieces) - 1
    text = re.escape(pieces[0])
    for i, piece in enumerate(pieces[1:], 1):
        text += ("(.+)" if i == n and not piece else "(.+?)") + re.escape(piece)
    return re.compile(text.encode(), re.DOTALL)
