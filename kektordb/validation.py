"""Is what the user gave usable? Every public call is checked here, before anything moves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import structs

from kektordb._search import is_query
from kektordb._strings import are_plain
from kektordb._vectors import MAX_DIM, METRICS, PRECISIONS
from kektordb.errors import ConfigError, IdError, VectorError
from kektordb.fusion import METHODS
from kektordb.operations import IndexConfig
from kektordb.text import Analyzer, languages

__all__ = [
    "as_query",
    "as_row",
    "as_rows",
    "check_ef_construction",
    "check_embedder_name",
    "check_fusion",
    "check_id",
    "check_ids",
    "check_include",
    "check_name",
    "check_params",
    "check_path",
    "check_positive",
    "check_precision",
    "check_recall",
    "check_sample",
    "check_text",
    "check_threads",
    "index_config",
    "with_texts",
]

MAX_EMBEDDER_NAME = 512
# One line of text: no controls, nothing that breaks a line.
LINE = "[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*"
MAX_ID_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_M = 512
MAX_EF = 65_536
# More results than rows are cut to the rows; this only catches what cannot be meant.
MAX_K = 2**31 - 1
MAX_SAMPLE = 1_000_000

TRAVERSALS = ("codes", "float32")
INCLUDES = frozenset({"metadata", "vector"})


def check_id(id: object) -> str:
    """Return an id that may be stored. Raises IdError."""
    if type(id) is str and 0 < len(id) <= MAX_ID_BYTES // 4 and id.isascii():
        return id
    if not isinstance(id, str):
        raise IdError(f"expected an id that is a string, got {type(id).__name__} {id!r:.80}")
    n_bytes = _utf8_length(id, "id")
    if not 1 <= n_bytes <= MAX_ID_BYTES:
        raise IdError(f"expected an id of 1 to {MAX_ID_BYTES} UTF-8 bytes, got {n_bytes} bytes")
    return str.__str__(id)  # not str(id): that of an enum is its name


def check_ids(ids: object) -> list[str]:
    """Return ids that may be stored together: each one valid, none twice. Raises IdError."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence | np.ndarray):
        raise IdError(f"expected a sequence of ids, got {type(ids).__name__}")
    checked = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if not are_plain(checked, MAX_ID_BYTES):
        checked = [check_id(id) for id in checked]
    if len(set(checked)) != len(checked):
        seen: set[str] = set()
        for id in checked:
            if id in seen:
                raise IdError(f"expected each id once in a batch, got {id!r} twice")
            seen.add(id)
    return checked


def _utf8_length(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise IdError(f"expected an {what} that is Unicode text, got {text!r:.80} with a lone surrogate") from error


def check_name(name: object) -> str:
    """Return a name for an index. Raises ConfigError."""
    if not isinstance(name, str):
        raise ConfigError(f"expected an index name that is a string, got {type(name).__name__}")
    try:
        n_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"expected an index name that is Unicode text, got {name!r:.80}") from error
    if not 1 <= n_bytes <= MAX_NAME_BYTES:
        raise ConfigError(f"expected an index name of 1 to {MAX_NAME_BYTES} UTF-8 bytes, got {n_bytes}")
    return str.__str__(name)


def check_path(path: object) -> str:
    """Return the path of a database. Raises ConfigError."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"expected the path of a database, got {type(path).__name__} {path!r:.80}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ConfigError(f"expected the path of a database, got {text!r:.80}")
    return text


def _integer(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"expected {name} to be an integer from {low} to {high}, got {value!r:.80}")
    return int(value)


def check_positive(value: object, name: str) -> int:
    """Return `k` or `ef_search` as an int of at least 1. Raises ConfigError."""
    if type(value) is int and 0 < value <= MAX_K:
        return value
    return _integer(value, name, 1, MAX_K)


def check_recall(recall: object, ef_search: object) -> float:
    """Return the recall of a search, which decides instead of `ef_search`. Raises ConfigError."""
    if ef_search is not None:
        raise ConfigError("expected either recall or ef_search, got both")
    found = _real(recall, "recall", 0, 1)
    if found == 0:
        raise ConfigError("expected recall to be above 0, got 0")
    return found


def check_sample(n: object, seed: object) -> tuple[int, int]:
    """Return the size of a sample and the seed it is drawn by. Raises ConfigError."""
    return _integer(n, "n", 1, MAX_SAMPLE), _integer(seed, "seed", 0, 2**64 - 1)


def check_threads(n_threads: object) -> int:
    """Return a number of threads. Raises ConfigError."""
    return _integer(n_threads, "n_threads", 1, 1024)


def check_ef_construction(ef_construction: object) -> int:
    """Return how many candidates links are chosen from. Raises ConfigError."""
    return _integer(ef_construction, "ef_construction", 1, MAX_EF)


def check_precision(precision: object, present: str) -> str:
    """Return a precision that vectors of the `present` one can be brought to. Raises ConfigError."""
    found = _one_of(precision, "precision", PRECISIONS)
    if found == present:
        raise ConfigError(f"expected another precision than the present one, got {found!r}")
    return found


def check_params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the parameters of a filter. Raises ConfigError."""
    if params is None or type(params) is dict:
        return params
    if not isinstance(params, Mapping):
        raise ConfigError(f"expected params to be a dict, got {type(params).__name__}")
    return dict(params)


def check_text(text: object) -> str:
    """Return words to look for. Raises ConfigError."""
    if not isinstance(text, str):
        raise ConfigError(f"expected text to be a string, got {type(text).__name__} {text!r:.80}")
    return str.__str__(text)


def check_embedder_name(name: object) -> str:
    """Return the name of an embedder if it is a line of 1 to 512 characters. Raises ConfigError."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_EMBEDDER_NAME or not _is_line(name):
        raise ConfigError(
            f"expected the name of an embedder as a line of 1 to {MAX_EMBEDDER_NAME} characters, got {name!r:.80}"
        )
    return str.__str__(name)


def _is_line(text: str) -> bool:
    return re.fullmatch(LINE, text) is not None and not any("\ud800" <= one <= "\udfff" for one in text)


def check_fusion(alpha: object, fusion: object) -> tuple[float, str]:
    """Return how vectors and words become one score. Raises ConfigError."""
    return _real(alpha, "alpha", 0, 1), _one_of(fusion, "fusion", list(METHODS))


def check_include(include: Sequence[str]) -> frozenset[str]:
    """Return what a hit shall hold. Raises ConfigError."""
    try:
        wanted = frozenset(include)
    except TypeError:
        wanted = frozenset({""})
    if isinstance(include, str) or not wanted <= INCLUDES:
        raise ConfigError(f"expected include to be a sequence of {sorted(INCLUDES)}, got {include!r:.80}")
    return wanted


def _one_of(value: object, name: str, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"expected {name} to be one of {', '.join(choices)}, got {value!r:.80}")
    return choices[choices.index(value)]  # of the type str itself, which a member of an enum is not


def index_config(
    metric: str, dim: int | None, m: int, ef_construction: int, seed: int, precision: str, traversal: str
) -> IndexConfig:
    """Return the configuration of a new index. Raises ConfigError."""
    return IndexConfig(
        metric=_one_of(metric, "metric", METRICS),
        dim=0 if dim is None else _integer(dim, "dim", 1, MAX_DIM),
        m=_integer(m, "m", 2, MAX_M),
        ef_construction=_integer(ef_construction, "ef_construction", 1, MAX_EF),
        seed=_integer(seed, "seed", 0, 2**64 - 1),
        precision=_one_of(precision, "precision", PRECISIONS),
        traversal=_one_of(traversal, "traversal", TRAVERSALS),
    )


def with_texts(
    config: IndexConfig,
    language: str,
    fields: Sequence[str] | None,
    stop_words: Sequence[str] | None,
    k1: float,
    b: float,
    weights: Mapping[str, float] | None,
) -> IndexConfig:
    """Return a configuration with that of its texts. Raises ConfigError."""
    if language != "":
        language = _one_of(language, "text_language", languages())
    elif (fields, stop_words, weights) != (None, None, None):
        raise ConfigError("expected a text_language beside text_fields, stop_words and field_weights, got none")
    with_text = structs.replace(
        config,
        text_language=language,
        text_fields=_texts(fields, "text_fields"),
        stop_words=_texts(stop_words, "stop_words"),
        k1=_real(k1, "k1", 0, 1000),
        b=_real(b, "b", 0, 1),
        field_weights=_weights(weights, fields),
    )
    if not language:
        return config
    Analyzer(language, with_text.stop_words)  # knows what a stop word is
    return with_text


def _texts(values: Any, name: str) -> tuple[str, ...] | None:
    """Return a sequence of different strings; None stays None."""
    if values is None:
        return None
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or isinstance(values, Mapping):
        raise ConfigError(f"expected {name} to be a sequence of strings, got {values!r:.80}")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigError(f"expected {name} to be a sequence of strings, got {value!r:.80} in it")
    return tuple(dict.fromkeys(str.__str__(value) for value in found))


def _weights(weights: Any, fields: Any) -> dict[str, float] | None:
    """Return weights of fields, which are among `fields` unless that is None."""
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        raise ConfigError(f"expected field_weights to be a dict, got {weights!r:.80}")
    for field in _texts(list(weights), "field_weights") or ():
        if fields is not None and field not in fields:
            raise ConfigError(f"expected field_weights of text_fields, got {field!r:.80}")
    found = {
        str.__str__(field): _real(weight, f"the weight of {field!r:.80}", 0, 1e6) for field, weight in weights.items()
    }
    if not all(found.values()):
        raise ConfigError(f"expected field_weights above 0, got {weights!r:.80}")
    return found


def _real(value: object, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high:
        raise ConfigError(f"expected {name} to be a number from {low} to {high}, got {value!r:.80}")
    return float(value)


def _as_float32(values: Any, what: str) -> npt.NDArray[np.float32]:
    """Return aligned C-contiguous float32; integers and other floats are converted. Raises VectorError."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise VectorError(f"expected {what}, got rows of different lengths or values that are no numbers") from error
    if array.dtype.kind not in "fiu":
        raise VectorError(f"expected {what} of floats or integers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what does not fit becomes Inf, and Inf is refused with its row
        return np.require(array, np.float32, ("C", "A"))


def as_query(vector: Any, dim: int) -> npt.NDArray[np.float32]:
    """Return a query as float32 (dim,). NaN and Inf are looked for when it is used. Raises VectorError."""
    if is_query(vector, dim):
        return vector  # type: ignore[no-any-return]
    query = _as_float32(vector, "a vector")
    if query.ndim != 1:
        raise VectorError(f"expected a vector with one axis, got shape {query.shape}")
    if dim and query.shape[0] != dim:
        raise VectorError(f"expected {dim} dimensions, got {query.shape[0]}")
    return query


def as_row(vector: Any, dim: int) -> npt.NDArray[np.float32]:
    """Return a vector that may be stored, as float32 (dim,); `dim` 0 takes any dimension. Raises VectorError."""
    row = as_query(vector, dim)
    _check_dim(row.shape[0])
    return row


def _check_dim(dim: int) -> None:
    if not 1 <= dim <= MAX_DIM:
        raise VectorError(f"expected 1 to {MAX_DIM} dimensions, got {dim}")


def as_rows(vectors: Any, n: int | None, dim: int) -> npt.NDArray[np.float32]:
    """Return vectors as float32 (n, dim); `n` None takes any number, `dim` 0 any dimension. Raises VectorError."""
    rows = _as_float32(vectors, "vectors")
    if rows.size == 0 and not n and rows.ndim == 1:
        return np.empty((0, dim), np.float32)
    if rows.ndim != 2:
        raise VectorError(f"expected vectors with two axes (n, dim), got shape {rows.shape}")
    if n is not None and rows.shape[0] != n:
        raise VectorError(f"expected {n} vectors, one for each id, got {rows.shape[0]}")
    if dim and rows.shape[1] != dim:
        raise VectorError(f"expected {dim} dimensions, got {rows.shape[1]}")
    _check_dim(rows.shape[1])
    return rows
