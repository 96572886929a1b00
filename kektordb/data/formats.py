"""Which format has a file of items?"""

from __future__ import annotations

from kektordb.errors import ConfigError

__all__ = ["FORMATS", "WRITTEN", "format_of"]

FORMATS = ("jsonl", "csv", "npy", "fvecs", "ivecs", "parquet")
WRITTEN = ("jsonl", "csv", "npy", "parquet", "qdrant", "pgvector")
ENDINGS = {"ndjson": "jsonl", "json": "jsonl", "pq": "parquet"}


def format_of(path: str, given: str | None) -> str:
    """Return the format of a file, by its ending if it is not given. Raises ConfigError."""
    if given is not None:
        if given not in FORMATS:
            raise ConfigError(f"expected format to be one of {', '.join(FORMATS)}, got {given!r:.80}")
        return given
    ending = path.rpartition(".")[2].lower()
    ending = ENDINGS.get(ending, ending)
    if ending not in FORMATS:
        raise ConfigError(f"expected a format for {path!r:.80}: {', '.join(FORMATS)}")
    return ending
