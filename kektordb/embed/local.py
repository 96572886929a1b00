"""How do models in this process make vectors of texts? Those of three libraries, when they are installed."""

from __future__ import annotations

import inspect
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from kektordb.embed.batching import BatchingEmbedder
from kektordb.embed.contract import redacted
from kektordb.embed.retrying import Retrying
from kektordb.errors import ConfigError, EmbedderError

__all__ = ["FastEmbedEmbedder", "Model2VecEmbedder", "SentenceTransformersEmbedder"]


class _Local(BatchingEmbedder):
    """A model that is loaded here; the library may have to download it first.

    One call at a time: the tokenizers of these libraries do not like more, and use all cores by themselves.
    """

    KIND: str
    BATCH = 256

    def __init__(self, model: str, *, name: str | None = None, loading: dict[str, Any], **options: Any) -> None:
        if not isinstance(model, str) or not model:
            raise ConfigError(f"expected the name of a model, or its path, got {model!r:.80}")
        options = {"batch_size": self.BATCH, "retrying": Retrying(0), **options}
        super().__init__(f"{self.KIND}:{model}" if name is None else name, **options)
        self._model_lock = threading.Lock()
        self._model = self._loaded(model, loading)
        found = self._dim_of_model()
        if self.dim is None:
            self.dim = found
        elif found is not None and found != self.dim:
            raise ConfigError(f"expected {self.dim} dimensions, got {found}, which is what {self.name} has")

    def _loaded(self, model: str, loading: dict[str, Any]) -> Any:
        try:
            load = self._library()
        except ImportError as error:
            missing = ConfigError(f"{self.KIND} is not installed, or not whole: pip install {self.KIND} ({error})")
            raise missing from error
        try:
            return load(model, **loading)
        except Exception as error:
            # Each of them has other errors for no network, no such model, no room.
            text = redacted(str(error))
            raise EmbedderError(f"{self.name} cannot be loaded: {type(error).__name__}: {text}") from error

    @abstractmethod
    def _library(self) -> Callable[..., Any]:
        """Return what loads a model. Raises ImportError."""

    @abstractmethod
    def _dim_of_model(self) -> int | None:
        """Return the components of its vectors, if it says."""


class SentenceTransformersEmbedder(_Local):
    """A model of sentence-transformers, with the prompts for queries and documents that it has.

    Parameters
    ----------
    model : str
        Its name on the Hugging Face hub, or its directory.
    name : str, optional
        ``"sentence-transformers:<model>"`` by default.
    loading : dict, optional
        Arguments of ``SentenceTransformer``, such as ``{"device": "cpu"}``.
    options
        Those of `BatchingEmbedder`.
    """

    KIND = "sentence-transformers"
    BATCH = 64

    def __init__(
        self, model: str, *, name: str | None = None, loading: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(model, name=name, loading=loading or {}, **options)

    def _library(self) -> Callable[..., Any]:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer  # type: ignore[no-any-return]

    def _dim_of_model(self) -> int | None:
        # Version 6 has a new name for it.
        found = getattr(self._model, "get_embedding_dimension", None) or self._model.get_sentence_embedding_dimension
        dim = found()
        return None if dim is None else int(dim)

    def _documents(self, texts: list[str]) -> Any:
        return self._encode("encode_document", texts)

    def _query(self, text: str) -> Any:
        return self._encode("encode_query", [text])[0]

    def _encode(self, method: str, texts: list[str]) -> Any:
        # Version 5 brought the two; before that there was one for both.
        encode = getattr(self._model, method, self._model.encode)
        with self._model_lock:
            return encode(texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True)


class FastEmbedEmbedder(_Local):
    """A model of fastembed (ONNX).

    Parameters
    ----------
    model : str
        One of ``TextEmbedding.list_supported_models()``.
    name : str, optional
        ``"fastembed:<model>"`` by default.
    loading : dict, optional
        Arguments of ``TextEmbedding``, such as ``{"threads": 2, "cache_dir": "models"}``.
    options
        Those of `BatchingEmbedder`.
    """

    KIND = "fastembed"

    def __init__(
        self, model: str, *, name: str | None = None, loading: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(model, name=name, loading=loading or {}, **options)

    def _library(self) -> Callable[..., Any]:
        from fastembed import TextEmbedding

        return TextEmbedding  # type: ignore[no-any-return]

    def _dim_of_model(self) -> int | None:
        dim = getattr(self._model, "embedding_size", None)
        return dim if isinstance(dim, int) else None

    def _documents(self, texts: list[str]) -> Any:
        with self._model_lock:
            return list(self._model.passage_embed(texts, batch_size=self.batch_size))

    def _query(self, text: str) -> Any:
        with self._model_lock:
            return next(iter(self._model.query_embed([text])))


class Model2VecEmbedder(_Local):
    """A static model of model2vec: small, and fast without a GPU.

    Parameters
    ----------
    model : str
        Its name on the Hugging Face hub, or its directory.
    name : str, optional
        ``"model2vec:<model>"`` by default.
    loading : dict, optional
        Arguments of ``StaticModel.from_pretrained``, such as ``{"dimensionality": 128}``.
    options
        Those of `BatchingEmbedder`.
    """

    KIND = "model2vec"
    BATCH = 1024

    def __init__(
        self, model: str, *, name: str | None = None, loading: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(model, name=name, loading=loading or {}, **options)

    def _library(self) -> Callable[..., Any]:
        from model2vec import StaticModel

        load: Callable[..., Any] = StaticModel.from_pretrained
        if "force_download" not in inspect.signature(load).parameters:
            return load
        # By default some versions download what is there already, each time.
        return lambda model, **loading: load(model, **{"force_download": False, **loading})

    def _dim_of_model(self) -> int | None:
        return int(self._model.dim)

    def _documents(self, texts: list[str]) -> Any:
        with self._model_lock:
            return self._model.encode(texts, show_progress_bar=False)
