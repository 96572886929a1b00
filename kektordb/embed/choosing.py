"""Which embedder is meant? By an object, a function, or a name such as ``"ollama:nomic-embed-text"``."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from importlib import import_module
from os import PathLike
from typing import Any

import numpy.typing as npt

from kektordb.embed.batching import BatchingEmbedder
from kektordb.embed.caching import CachedEmbedder
from kektordb.embed.calling import CallableEmbedder
from kektordb.embed.contract import Embedder
from kektordb.errors import ConfigError
from kektordb.validation import check_embedder_name

__all__ = ["KINDS", "as_embedder"]

# Kinds of embedders by name, each with the module and class that knows it; loaded when asked for.
KINDS = {
    "ollama": ("kektordb.embed.services", "OllamaEmbedder"),
    "openai": ("kektordb.embed.services", "OpenAIEmbedder"),
    "sentence-transformers": ("kektordb.embed.local", "SentenceTransformersEmbedder"),
    "fastembed": ("kektordb.embed.local", "FastEmbedEmbedder"),
    "model2vec": ("kektordb.embed.local", "Model2VecEmbedder"),
    "hashing": ("kektordb.embed.hashing", "HashingEmbedder"),
}


Given = Embedder | Callable[[list[str]], npt.ArrayLike] | str


def as_embedder(
    given: Given, *, cache: MutableMapping[str, bytes] | str | PathLike[str] | None = None, **options: Any
) -> Embedder:
    """Return an embedder of what was given.

    Parameters
    ----------
    given : Embedder, callable or str
        A name is a kind and a model: ``"ollama:nomic-embed-text"``, ``"openai:text-embedding-3-small"``,
        ``"sentence-transformers:all-MiniLM-L6-v2"``, ``"fastembed:BAAI/bge-small-en-v1.5"``,
        ``"model2vec:minishlab/potion-base-8M"``, ``"hashing:256"``. A callable takes a list of texts and gives a
        matrix. Any object with `embed_documents` and `embed_query` will do; its answers are checked.
    cache : mapping of str to bytes, str or path, optional
        Where vectors are kept, so that no text is embedded twice: ``db.kv``, or the path of a file; see
        `CachedEmbedder`.
    options
        Those of the class of the kind, or of `CallableEmbedder`: ``name``, ``batch_size``, ``url`` ...

    Returns
    -------
    Embedder
        `given` itself, when it is one of this package.

    Raises
    ------
    ConfigError
    """
    embedder = _chosen(given, options)
    check_embedder_name(embedder.name)
    return embedder if cache is None else CachedEmbedder(embedder, cache)


def _chosen(given: Given, options: dict[str, Any]) -> Embedder:
    if isinstance(given, str):
        return _by_name(given, options)
    if isinstance(given, BatchingEmbedder | CachedEmbedder):
        if options:
            raise ConfigError(f"expected no options beside an embedder, got {', '.join(sorted(options))}")
        return given
    documents, query = getattr(given, "embed_documents", None), getattr(given, "embed_query", None)
    if callable(documents) and callable(query):
        found = {"name": getattr(given, "name", None), "dim": getattr(given, "dim", None)}
        found["name"] = found["name"] or f"callable:{type(given).__name__}"
        return _made(CallableEmbedder, (documents,), {"query": query, **found, **options})
    if not callable(given):
        raise ConfigError(f"expected an embedder, a function, or a name, got {type(given).__name__}")
    return _made(CallableEmbedder, (given,), options)


def _by_name(text: str, options: dict[str, Any]) -> Embedder:
    kind, _, model = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(
            f"expected an embedder such as {', '.join(f'{known}:MODEL' for known in KINDS)}, got {text!r:.80}"
        )
    if kind == "hashing":
        if model and not (model.isascii() and model.isdigit() and len(model) < 10):
            raise ConfigError(f"expected a number of dimensions, such as hashing:256, got {text!r:.80}")
        arguments: tuple[object, ...] = (int(model),) if model else ()
    elif not model:
        raise ConfigError(f"expected a model, such as {kind}:MODEL, got {text!r:.80}")
    else:
        arguments = (model,)
    module, name = KINDS[kind]
    return _made(getattr(import_module(module), name), arguments, options)


def _made(kind: Callable[..., Embedder], arguments: tuple[object, ...], options: dict[str, Any]) -> Embedder:
    try:
        return kind(*arguments, **options)
    except TypeError as error:
        # Names of options come from a user; the values, which may be secrets, are not in this message.
        raise ConfigError(f"an option of the embedder is not known: {error}") from None
