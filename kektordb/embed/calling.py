"""How does any function, or any object with the methods of an embedder, become one?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from kektordb.embed.batching import BatchingEmbedder
from kektordb.embed.retrying import Retrying
from kektordb.errors import ConfigError

__all__ = ["CallableEmbedder"]


class CallableEmbedder(BatchingEmbedder):
    """An embedder of a function from a list of texts to a matrix, or a list of vectors.

    What the function raises becomes an EmbedderError, with it as its cause.

    Parameters
    ----------
    function : callable
        ``list[str] -> array_like (n, dim)``. From several threads at a time, when `concurrency` or callers say so.
    name : str, optional
        Kept with an index and compared: give it the name of the model. By default that of the function.
    query : callable, optional
        ``str -> array_like (dim,)``, when queries are embedded in another way.
    retries : int
    options
        Those of `BatchingEmbedder`.
    """

    def __init__(
        self,
        function: Callable[[list[str]], npt.ArrayLike],
        *,
        name: str | None = None,
        query: Callable[[str], npt.ArrayLike] | None = None,
        retries: int = 0,
        **options: Any,
    ) -> None:
        if not callable(function) or not (query is None or callable(query)):
            raise ConfigError(f"expected a function of texts, got {type(function).__name__}")
        found = getattr(function, "__name__", type(function).__name__) if name is None else name
        super().__init__(
            f"callable:{found}" if name is None else found,
            **{"batch_size": 256, "retrying": Retrying(retries), **options},
        )
        self._function = function
        self._query_function = query

    def _documents(self, texts: list[str]) -> Any:
        return self._function(texts)

    def _query(self, text: str) -> Any:
        return super()._query(text) if self._query_function is None else self._query_function(text)
