"""How does an index take texts instead of vectors? By the embedder that is attached to it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kektordb._metadata import encode_many
from kektordb.errors import ConfigError, EmbedderError, MetadataError, VectorError
from kektordb.operations import IndexConfig
from kektordb.validation import check_ids, check_text

if TYPE_CHECKING:
    from kektordb.embed import Embedder

__all__ = ["IndexOfTexts", "check_dim"]


class IndexOfTexts(ABC):
    """The half of an index, here or on a server, that makes its vectors itself."""

    # What the other halves have.
    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...
        def add_batch(self, ids: Sequence[str], vectors: npt.ArrayLike, metadata: Any = None) -> None: ...
        def upsert_batch(self, ids: Sequence[str], vectors: npt.ArrayLike, metadata: Any = None) -> None: ...

    @abstractmethod
    def _described(self) -> tuple[IndexConfig, int | None]:
        """Return its configuration and dimension."""

    @abstractmethod
    def _attached(self) -> Embedder | None:
        """Return what was attached to this index in this process."""

    @abstractmethod
    def _attach(self, embedder: Embedder, rename: bool) -> None:
        """Keep an embedder for this index, and its name with the index. Raises ConfigError for another name."""

    @property
    def embedder(self) -> Embedder | None:
        """The embedder that is attached; None without one, whatever the index was filled with."""
        return self._attached()

    def attach_embedder(
        self,
        /,
        embedder: Embedder | Callable[[list[str]], npt.ArrayLike] | str | None = None,
        *,
        rename: bool = False,
        cache: MutableMapping[str, bytes] | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Embedder:
        """Let the index embed texts by itself, for as long as the database is open; see docs/embedders.md.

        The name of the embedder is stored with the index, once; another one is refused then, for its vectors would not
        be comparable.

        Parameters
        ----------
        embedder : Embedder, callable or str, optional
            As `kektordb.embed.as_embedder` takes it; by default the name that is stored.
        rename : bool
            Store another name, for the same model by another way.
        cache, options
            As `kektordb.embed.as_embedder` takes them.

        Returns
        -------
        Embedder

        Raises
        ------
        ConfigError
            It is none, it is another one than that of the index, or of another dimension.
        """
        from kektordb.embed import as_embedder

        config, dim = self._described()
        if embedder is None:
            embedder = config.embedder
            if not embedder:
                raise ConfigError(f"expected an embedder: index {self.name!r} has none that is known")
        made = as_embedder(embedder, cache=cache, **options)
        if not rename:
            _check_name(self.name, config.embedder, made)
        check_dim(self.name, dim, made)
        self._attach(made, rename)
        return made

    def add_texts(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        text_key: str = "text",
        *,
        replace: bool = False,
    ) -> list[str]:
        """Embed texts and add them: all of them, or none.

        Parameters
        ----------
        texts : sequence of str
        ids : sequence of str, optional
            One for each text; made up (32 hexadecimal digits, by chance) when left out.
        metadata : sequence of dict or None, optional
            One for each text.
        text_key : str
            The text is stored in the metadata under this key.
        replace : bool
            Items of the same ids are replaced.

        Returns
        -------
        list of str
            The ids.

        Raises
        ------
        EmbedderError
            Nothing was stored; `permanent` says whether to try again is of use.
        ConfigError
            No embedder is attached.
        ItemExists, IdError, MetadataError, StorageError
            As in `add_batch`.
        """
        from kektordb.embed.contract import as_texts

        embedder, _, dim = self._ready()
        given = as_texts(texts)
        named = [os.urandom(16).hex() for _ in given] if ids is None else check_ids(ids)
        if len(named) != len(given):
            raise ConfigError(f"expected {len(given)} ids, one for each text, got {len(named)}")
        with_text = _with_texts(metadata, given, text_key)
        # What is wrong with them shall show before the texts are embedded, which takes time, or money.
        encode_many(with_text, named)
        rows = self._checked(embedder, embedder.embed_documents(given), dim)
        put = self.upsert_batch if replace else self.add_batch
        if given:
            put(named, rows, with_text)
        return named

    def _question(
        self, query_text: str, vector: npt.ArrayLike | None, text: str | None
    ) -> tuple[npt.NDArray[np.float32], str | None]:
        """Return the vector and the words that a text is searched for by."""
        if vector is not None or text is not None:
            raise VectorError("expected query_text alone, got a vector or a text beside it")
        embedder, config, dim = self._ready()
        row = self._checked(embedder, embedder.embed_query(check_text(query_text))[None, :], dim)[0]
        return row, query_text if config.text_language else None

    def _ready(self) -> tuple[Embedder, IndexConfig, int | None]:
        """Return the embedder, if there is the right one, with configuration and dimension. Raises ConfigError."""
        config, dim = self._described()
        embedder, stored = self._attached(), config.embedder
        if embedder is None:
            hint = f"; its vectors are of {stored!r}" if stored else ""
            raise ConfigError(f"expected an embedder to be attached to index {self.name!r} (attach_embedder){hint}")
        _check_name(self.name, stored, embedder)
        return embedder, config, dim

    def _checked(self, embedder: Embedder, rows: npt.NDArray[np.float32], dim: int | None) -> npt.NDArray[np.float32]:
        """Return what an embedder made, if it is of the dimension of the index. Raises EmbedderError."""
        if dim is not None and len(rows) and rows.shape[1] != dim:
            unlearn = getattr(embedder, "unlearn", None)
            if unlearn is not None:
                unlearn()
            raise EmbedderError(
                f"{embedder.name} answers with {rows.shape[1]} dimensions, index {self.name!r} has {dim}",
                permanent=True,
            )
        return rows


def check_dim(name: str, dim: int | None, embedder: Embedder) -> None:
    """Raise ConfigError when an embedder has other dimensions than the index of this name."""
    if dim is not None and embedder.dim is not None and dim != embedder.dim:
        raise ConfigError(f"expected an embedder of {dim} dimensions, as index {name!r} has, got {embedder.dim}")


def _check_name(index: str, stored: str, embedder: Embedder) -> None:
    """Raise ConfigError when the vectors of an index are of another embedder."""
    if stored and stored != embedder.name:
        raise ConfigError(
            f"index {index!r} has vectors of the embedder {stored!r}, got {embedder.name!r}; "
            "for the same model by another way attach it with rename=True"
        )


def _with_texts(metadata: Any, texts: list[str], key: str) -> list[dict[str, Any]]:
    """Return the metadata of texts, with the texts. Raises MetadataError, ConfigError."""
    if not isinstance(key, str) or not key:
        raise ConfigError(f"expected text_key to be the name of a field, got {key!r:.80}")
    if metadata is None:
        metadata = [None] * len(texts)
    elif isinstance(metadata, str | bytes | Mapping) or not isinstance(metadata, Sequence | np.ndarray):
        raise MetadataError(f"expected a sequence of metadata, one for each text, got {type(metadata).__name__}")
    elif len(metadata) != len(texts):
        raise MetadataError(f"expected {len(texts)} metadata, one for each text, got {len(metadata)}")
    found = []
    for own, text in zip(metadata, texts, strict=True):
        if own is not None and not isinstance(own, Mapping):
            raise MetadataError(f"expected metadata as a dict, got {type(own).__name__}")
        if own is not None and own.get(key, text) != text:
            raise MetadataError(f"expected metadata without {key!r}, under which the text is stored; see text_key")
        found.append({**(own or {}), key: text})
    return found
