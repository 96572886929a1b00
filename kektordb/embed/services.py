"""How do services make vectors of texts? Ollama, and all that speak as OpenAI does."""

from __future__ import annotations

import binascii
import os
from typing import Any

import msgspec
import numpy as np

from kektordb.embed.batching import BatchingEmbedder, check_count
from kektordb.embed.contract import Rows
from kektordb.embed.posting import Poster
from kektordb.embed.retrying import Retrying
from kektordb.errors import ConfigError, EmbedderError

__all__ = ["OllamaEmbedder", "OpenAIEmbedder"]

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


class _Service(BatchingEmbedder):
    """What is asked over HTTP."""

    def __init__(
        self,
        kind: str,
        model: str,
        url: str,
        key: str | None,
        *,
        name: str | None,
        timeout: float,
        max_response_bytes: int,
        dimensions: int | None,
        retries: int,
        **options: Any,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ConfigError(f"expected the name of a model, got {model!r:.80}")
        self.model = model
        self.dimensions = None if dimensions is None else check_count(dimensions, "dimensions", 65_536)
        if dimensions is not None:
            options.setdefault("dim", dimensions)
        options["retrying"] = options.get("retrying") or Retrying(retries)
        super().__init__(f"{kind}:{model}" if name is None else name, **options)
        self._poster = Poster(self.name, url, key, timeout=timeout, max_response_bytes=max_response_bytes)

    @property
    def identity(self) -> str:
        """See `BatchingEmbedder`: how many dimensions are asked for belongs to it."""
        return super().identity + ("" if self.dimensions is None else f" {self.dimensions}")

    def close(self) -> None:
        """Close the connections; it can be used again after that."""
        self._poster.close()

    def _body(self, **more: Any) -> dict[str, Any]:
        return {"model": self.model, **more} | ({} if self.dimensions is None else {"dimensions": self.dimensions})


class OllamaEmbedder(_Service):
    """A model of Ollama: ``/api/embed``, or ``/api/embeddings`` where that is not known.

    The older one takes one text at a time and gives vectors of any length; they are brought to length 1, as the
    newer one does. Ollama cuts texts that are too long for the model.

    Parameters
    ----------
    model : str
        Such as ``"nomic-embed-text"``; it must have been pulled.
    url : str
    name : str, optional
        ``"ollama:<model>"`` by default.
    api_key, api_key_env : str, optional
        For a server behind something that asks for a bearer token; see `OpenAIEmbedder`.
    timeout : float
        Seconds for an answer. The first one may have to wait until the model is loaded.
    max_response_bytes : int
    dimensions : int, optional
        For models that can give fewer.
    keep_alive : str, optional
        How long the model stays loaded, such as ``"30m"``.
    retries, options
        Those of `BatchingEmbedder`.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = "http://localhost:11434",
        name: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        timeout: float = 120.0,
        max_response_bytes: int = 64 << 20,
        dimensions: int | None = None,
        keep_alive: str | None = None,
        retries: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(
            *("ollama", model, url, _key(api_key, api_key_env)),
            name=name,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            dimensions=dimensions,
            retries=retries,
            **options,
        )
        self._more = {} if keep_alive is None else {"keep_alive": keep_alive}
        self._is_old = False

    def _documents(self, texts: list[str]) -> Any:
        if self._is_old:
            return self._one_by_one(texts)
        try:
            return self._poster.post("/api/embed", self._body(input=texts, **self._more), _Embedded).embeddings
        except EmbedderError as error:
            if error.status != 404:
                raise
        # Either the route or the model is not known: the older route tells.
        rows = self._one_by_one(texts)
        self._is_old = True
        return rows

    def _one_by_one(self, texts: list[str]) -> list[Rows]:
        return [_unit(self._poster.post("/api/embeddings", self._body(prompt=t, **self._more), _Old)) for t in texts]


class OpenAIEmbedder(_Service):
    """A model of OpenAI, or of anything that speaks as it does: vLLM, llama.cpp, LM Studio, TEI, LiteLLM ...

    Parameters
    ----------
    model : str
        Such as ``"text-embedding-3-small"``.
    url : str
        What stands before ``/embeddings``.
    name : str, optional
        ``"openai:<model>"`` by default.
    api_key : str, optional
        Kept in memory only, and never shown. Better, since it does not stand in a program:
    api_key_env : str, optional
        The environment variable that holds the key. ``OPENAI_API_KEY`` by default for OpenAI itself; another service
        never gets that key unless it is named here.
    base64 : bool
        Ask for vectors in base64, a quarter of the bytes and exact. Answers with numbers are understood in any case;
        False is for services that refuse the question.
    dimensions : int, optional
        For models that can give fewer.
    timeout, max_response_bytes
        See `OllamaEmbedder`.
    retries, options
        Those of `BatchingEmbedder`.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = OPENAI_URL,
        name: str | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        base64: bool = True,
        timeout: float = 60.0,
        max_response_bytes: int = 64 << 20,
        dimensions: int | None = None,
        retries: int = 5,
        **options: Any,
    ) -> None:
        if url == OPENAI_URL and api_key is None and api_key_env is None:
            api_key_env = OPENAI_KEY
        super().__init__(
            *("openai", model, url, _key(api_key, api_key_env)),
            name=name,
            timeout=timeout,
            max_response_bytes=max_response_bytes,
            dimensions=dimensions,
            retries=retries,
            **{"batch_size": 128, "concurrency": 4, **options},
        )
        self._format = {"encoding_format": "base64" if base64 else "float"}

    def _documents(self, texts: list[str]) -> Any:
        rows = self._poster.post("/embeddings", self._body(input=texts, **self._format), _Data).data
        # The order of the answer is not promised: each row says whose it is.
        if sorted(row.index for row in rows) != list(range(len(texts))):
            raise EmbedderError(f"{self.name} answers {len(texts)} texts with other ones", permanent=True)
        return [self._numbers(row.embedding) for row in sorted(rows, key=lambda row: row.index)]

    def _numbers(self, embedding: str | list[float]) -> Rows | list[float]:
        if not isinstance(embedding, str):
            return embedding
        try:
            return np.frombuffer(binascii.a2b_base64(embedding, strict_mode=True), "<f4")
        except (binascii.Error, ValueError):
            raise EmbedderError(f"{self.name} answers with broken base64", permanent=True) from None


class _Embedded(msgspec.Struct):
    embeddings: list[list[float]]


class _Old(msgspec.Struct):
    embedding: list[float]


class _Row(msgspec.Struct):
    index: int
    embedding: str | list[float]


class _Data(msgspec.Struct):
    data: list[_Row]


def _unit(answer: _Old) -> Rows:
    row = np.array(answer.embedding, np.float64)
    length = float(np.sqrt(row @ row))
    return np.asarray(row / length if length else row, np.float32)


def _key(key: str | None, variable: str | None) -> str | None:
    """Return the key that was given, or that of an environment variable. Raises ConfigError."""
    if variable is None:
        return key
    if key is not None:
        raise ConfigError("expected either api_key or api_key_env, got both")
    if not isinstance(variable, str):
        raise ConfigError(f"expected the name of an environment variable, got {type(variable).__name__}")
    found = os.environ.get(variable, "").strip()
    if not found:
        raise ConfigError(f"expected a key in the environment variable {variable!r:.80}, which is not set")
    return found
