"""What is the key-value store of a server? A mutable mapping, as `KeyValueView` is."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import overload
from urllib.parse import urlencode

from kektordb.errors import ConfigError, ServerError
from kektordb.kv import check_key, check_value
from kektordb.remote.transport import Transport, path_of

__all__ = ["RemoteKeys"]

PAGE = 1000
NOT_FOUND = 404


class RemoteKeys(MutableMapping[str, bytes]):
    """The key-value store of a server: a mapping from str to bytes, in key order.

    Values are at most as large as the bodies that the server takes, 32 MB; keys about 10,000 characters. An iterator
    asks for the keys page by page.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _find(self, key: object) -> bytes | None:
        try:
            path = path_of("/kv", check_key(key))
        except ConfigError:  # what cannot be a key is none
            return None
        try:
            value = self._transport.get(path)["value"]
        except ServerError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return value if isinstance(value, bytes) else str(value).encode()

    def __getitem__(self, key: str) -> bytes:
        value = self._find(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: bytes | bytearray | memoryview | str) -> None:
        """Set a key; a str is stored as its UTF-8 bytes."""
        body = {"value": check_value(value)}
        self._transport.request("PUT", path_of("/kv", check_key(key)), body, repeatable=True)

    def __delitem__(self, key: str) -> None:
        if self._find(key) is None:
            raise KeyError(key)
        self._transport.request("DELETE", path_of("/kv", key), repeatable=True)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self.prefix(""))

    def __iter__(self) -> Iterator[str]:
        return self.prefix("")

    @overload
    def get_str(self, key: str) -> str | None: ...
    @overload
    def get_str(self, key: str, default: str) -> str: ...
    def get_str(self, key: str, default: str | None = None) -> str | None:
        """Return the value of a key as text, `default` when there is none; UnicodeDecodeError when it is not UTF-8."""
        value = self._find(key)
        return default if value is None else value.decode()

    def prefix(self, prefix: str) -> Iterator[str]:
        """Iterate over the keys that begin with `prefix`, in key order."""
        if not isinstance(prefix, str):
            raise ConfigError(f"expected a str as prefix, got {type(prefix).__name__}")
        return self._pages(prefix)

    def _pages(self, prefix: str) -> Iterator[str]:
        after = ""
        while True:
            query = urlencode({"prefix": prefix, "after": after, "limit": PAGE})
            page = self._transport.get(f"/kv?{query}")
            yield from page["keys"]
            after = page.get("next", "")
            if not after:
                return

    def clear(self) -> None:
        """Delete all keys, one durable operation each; stops at the first error."""
        for key in list(self):
            self._transport.request("DELETE", path_of("/kv", key), repeatable=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._transport.url}>"
