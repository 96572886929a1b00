"""Which status and text does an error become? One table."""

from __future__ import annotations

import msgspec

from kektordb import errors

__all__ = ["HttpError", "body_is_late", "explain"]

# The first class that fits decides.
STATUSES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.IndexNotFound, 404),
    (errors.ItemNotFound, 404),
    (errors.TaskNotFound, 404),
    (errors.IndexExists, 409),
    (errors.ItemExists, 409),
    (errors.ReadOnlyDatabase, 403),
    (errors.DatabaseClosed, 503),
    (errors.StorageFull, 507),
    (errors.StorageError, 500),
    (errors.ConfigError, 400),
    (errors.VectorError, 400),
    (errors.MetadataError, 400),
    (errors.IdError, 400),
    (errors.FilterError, 400),
    (MemoryError, 503),
)
# Their own texts name files.
FIXED = {
    403: "the database is read-only",
    500: "Internal Server Error",
    503: "the server is not able to answer now",
    507: "no room is left for writes",
}


class HttpError(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status : int
    text : str
        For the client; it names no file.
    kind : str
        The class in `kektordb.errors` that a client raises.
    plain : bool
        The body is the text instead of a JSON object.
    headers : tuple of (bytes, bytes)
        Beside those of the body.
    position : int or None
        Of a mistake in a filter.
    """

    def __init__(
        self,
        status: int,
        text: str,
        kind: str = "",
        *,
        plain: bool = False,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        position: int | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind
        self.plain = plain
        self.headers = headers
        self.position = position


def body_is_late() -> HttpError:
    """Return the answer to a body that does not come."""
    return HttpError(408, "the body did not come in time", headers=((b"connection", b"close"),))


def explain(error: BaseException) -> HttpError:
    """Return the answer to an error."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, RecursionError):
        return HttpError(400, "invalid body: nested too deep")
    if isinstance(error, msgspec.DecodeError):
        return HttpError(400, f"invalid JSON: {error}")
    if isinstance(error, UnicodeDecodeError):
        return HttpError(400, "invalid text: expected UTF-8")
    for known, status in STATUSES:
        if isinstance(error, known):
            position = error.position if isinstance(error, errors.FilterError) else None
            text = FIXED.get(status) or str(error)
            return HttpError(status, text, type(error).__name__, position=position)
    return HttpError(500, FIXED[500])
