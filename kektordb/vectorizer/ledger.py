"""What is known of each document? One durable key a document, written together with its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import xxhash

from kektordb.database import Database
from kektordb.errors import ConfigError
from kektordb.kv import AllKeys
from kektordb.links import RESERVED

__all__ = ["Head", "Ledger", "Record", "check_vectorizer_name", "chunk_hash", "chunk_ids", "hash_of_id"]

PREFIX = f"{RESERVED}vectorizer\0"
MAX_NAME_BYTES = 255
MAX_ID_BYTES = 1024
HASH_BYTES = 16


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a vectorizer was begun with.

    Attributes
    ----------
    index : str
        The name of the index.
    number : int
        Of the index: one that was dropped and made anew has another.
    embedder : str
        Who made its vectors.
    """

    index: str
    number: int
    embedder: str


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What of a document is in the index.

    Attributes
    ----------
    stamp : str
        Of the document when it was read; see `Entry`.
    setup : str
        What else its items depend on, as a hash.
    hashes : bytes
        Of the chunks, in their order, 16 bytes each.
    """

    stamp: str
    setup: str
    hashes: bytes

    @property
    def n_chunks(self) -> int:
        """How many chunks it has."""
        return len(self.hashes) // HASH_BYTES


class Ledger:
    """The records of one vectorizer, in the key-value store of a database.

    Parameters
    ----------
    database : Database
    name : str
        Of the vectorizer.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._kv = AllKeys(database)
        self._name = name
        self._prefix = f"{PREFIX}document\0{name}\0"
        self._head_key = f"{PREFIX}head\0{name}"
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Record).decode
        self._decode_head = msgspec.msgpack.Decoder(Head).decode

    def head(self) -> Head | None:
        """Return what it was begun with; None before that."""
        value = self._kv.get(self._head_key)
        return None if value is None else self._decode_head(value)

    def put_head(self, head: Head) -> None:
        """Note what it begins with."""
        self._kv[self._head_key] = self._encode(head)

    def get(self, key: str) -> Record | None:
        """Return the record of a document."""
        value = self._kv.get(self._prefix + key)
        return None if value is None else self._decode(value)

    def put(self, key: str, record: Record) -> None:
        """Note what is in the index of a document; within the batch that puts it there."""
        self._kv[self._prefix + key] = self._encode(record)

    def forget(self, key: str) -> None:
        """Delete the record of a document, if there is one."""
        self._kv.pop(self._prefix + key, None)

    def documents(self) -> Iterator[str]:
        """Iterate over the keys of the documents, sorted."""
        n = len(self._prefix)
        return (key[n:] for key in self._kv.prefix(self._prefix))

    def ids(self, key: str, record: Record) -> list[str]:
        """Return the ids of the items of a document."""
        return chunk_ids(self._name, key, hashes_of(record))


def hashes_of(record: Record) -> list[bytes]:
    """Return the hashes of the chunks of a document, in their order."""
    return [record.hashes[i : i + HASH_BYTES] for i in range(0, len(record.hashes), HASH_BYTES)]


def chunk_hash(text: str) -> bytes:
    """Return the hash of what an embedder is given: the same texts have the same vector."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def chunk_ids(name: str, key: str, hashes: Sequence[bytes]) -> list[str]:
    """Return the ids of the chunks of a document.

    They follow from the content and not from the number of a chunk, so that a paragraph put in at the top of a file
    leaves the items of all others where they are, in the graph as well. The second chunk of the same text has a 2.
    """
    longest = f"{name}:{key}#{'0' * 2 * HASH_BYTES}-{len(hashes)}"
    if len(longest) * 4 > MAX_ID_BYTES and len(longest.encode()) > MAX_ID_BYTES:
        key = f"~{xxhash.xxh3_128_hexdigest(key.encode())}"
    seen: dict[bytes, int] = {}
    ids = []
    for digest in hashes:
        n = seen[digest] = seen.get(digest, 0) + 1
        ids.append(f"{name}:{key}#{digest.hex()}" if n == 1 else f"{name}:{key}#{digest.hex()}-{n}")
    return ids


def hash_of_id(name: str, id: str) -> bytes | None:
    """Return the hash of the chunk whose item has this id; None when no vectorizer of this name made it."""
    if not id.startswith(f"{name}:"):
        return None
    try:
        return bytes.fromhex(id.rpartition("#")[2].partition("-")[0])
    except ValueError:
        return None


def check_vectorizer_name(name: object) -> str:
    """Return a name that keys can hold. Raises ConfigError."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigError(f"expected a vectorizer's name of 1 to 255 bytes of printable text, got {name!r:.80}")
    return name
