"""Which vectorizers does a configuration file ask for? The file of the original, read strictly."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec

from kektordb.database import Database
from kektordb.documents import Chunking, as_chunking
from kektordb.embed import as_embedder
from kektordb.errors import ConfigError
from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.patterns import Patterns
from kektordb.vectorizer.running import Runner
from kektordb.vectorizer.starting import schedule_of, watcher_of
from kektordb.vectorizer.vectorizer import Vectorizer
from kektordb.vectorizer.yaml_file import Place, YamlFile, read_yaml

__all__ = ["VectorizerConfig", "load_config", "start_all"]

MAX_VECTORIZERS = 1000
# What the original calls them, and what they are called here.
EMBEDDERS = {
    "ollama_api": "ollama",
    "ollama": "ollama",
    "openai_api": "openai",
    "openai": "openai",
    **{name: name for name in ("sentence-transformers", "fastembed", "model2vec", "hashing")},
}
# The ends of addresses that the original asks for; ours find them by themselves.
ROUTES = ("/api/embeddings", "/api/embed", "/embeddings")
# Options that are texts, whatever their values look like.
TEXTS = frozenset({"name", "kektor_index", "path", "url", "model", "api_key", "api_key_env"})
# What the original's later versions know beside, and why it is not here.
ABSENT = {
    "graph_enabled": "links between chunks are not made here",
    "graph_entity_extraction": "language models are not asked here",
    "llm": "language models are not asked here",
    "vision_llm": "language models are not asked here",
    "parser": "other programs are not run here; a Source of your own may do it, see docs/rag.md",
}


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``source``: where the documents are."""

    type: Literal["filesystem"]
    path: str


class EmbedderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``embedder``: what makes their vectors; see docs/rag.md."""

    type: str
    model: str = ""
    url: str | None = None
    timeout: str | float | None = None
    api_key: str | None = None
    api_key_env: str | None = None
    dimensions: int | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    retries: int | None = None
    document_prefix: str | None = None
    query_prefix: str | None = None

    def __repr__(self) -> str:
        """Return what it is, without the key."""
        return f"EmbedderConfig({self.type!r}, {self.model!r})"


class ProcessorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``document_processor``: how they are cut."""

    chunking_strategy: str = "recursive"
    chunk_size: int = 500
    chunk_overlap: int | None = None
    chunk_unit: str = "characters"
    custom_separators: list[str] | None = None


class IndexOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``index_config``: of an index that is not there yet; as `Database.create_index` takes them."""

    metric: str | None = None
    precision: str | None = None
    m: int | None = None
    ef_construction: int | None = None
    text_language: str | None = None
    text_fields: list[str] | None = None


class VectorizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vectorizer of the file."""

    name: str
    kektor_index: str
    source: SourceConfig
    embedder: EmbedderConfig
    schedule: str | float | None = None
    document_processor: ProcessorConfig = ProcessorConfig()
    include_patterns: list[str] = []
    exclude_patterns: list[str] = []
    include_hidden: bool = False
    watch: bool = True
    index_config: IndexOptions = IndexOptions()
    metadata_template: dict[str, str | int | float | bool] = {}

    @property
    def chunking(self) -> Chunking:
        """How documents are cut: an overlap that is not given is a tenth, as in the original."""
        given = self.document_processor
        overlap = given.chunk_size // 10 if given.chunk_overlap is None else given.chunk_overlap
        separators = None if given.custom_separators is None else tuple(given.custom_separators)
        return Chunking(given.chunking_strategy, given.chunk_size, overlap, given.chunk_unit, separators)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vectorizers: list[VectorizerConfig]


def load_config(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> list[VectorizerConfig]:
    """Return the vectorizers of a file.

    Parameters
    ----------
    path : str or path
        YAML, with ``${NAME}`` and ``${NAME:-default}`` for environment variables. See docs/rag.md.
    environment : mapping

    Raises
    ------
    ConfigError
        With the line on which what is wrong stands. Keys are never in it.
    """
    found = read_yaml(Path(path), environment, TEXTS)
    _refuse_absent(found)
    try:
        configs = msgspec.convert(found.data, _File).vectorizers
    except msgspec.ValidationError as error:
        _explain(found, str(error))
    if len(configs) > MAX_VECTORIZERS:
        found.refuse(("vectorizers",), f"expected at most {MAX_VECTORIZERS} vectorizers, got {len(configs)}")
    seen: set[str] = set()
    for i, config in enumerate(configs):
        at: Place = ("vectorizers", i)
        if config.name in seen:
            found.refuse((*at, "name"), f"expected each name once, got {config.name!r:.80} twice")
        seen.add(config.name)
        _check(found, at, config)
    return configs


def start_all(database: Database, configs: list[VectorizerConfig]) -> None:
    """Let the vectorizers of a configuration work on a database. Raises ConfigError; then none was started."""
    runners = []
    for config in configs:
        source = FolderSource(
            config.source.path,
            include_patterns=config.include_patterns,
            exclude_patterns=config.exclude_patterns,
            include_hidden=config.include_hidden,
        )
        vectorizer = Vectorizer(
            database,
            config.name,
            config.kektor_index,
            source,
            embedder_of(config.embedder),
            chunking=config.chunking,
            metadata_template=config.metadata_template,
            index_config=_given(config.index_config),
        )
        schedule_s = None if config.schedule is None else schedule_of(config.schedule)
        runners.append(Runner(vectorizer, schedule_s, watcher_of(source, config.watch)))
    for runner in runners:
        database.vectorizers.run(runner)


def embedder_of(config: EmbedderConfig) -> Any:
    """Return the embedder that is asked for. Raises ConfigError."""
    options = _given(config)
    kind, model = EMBEDDERS[options.pop("type")], options.pop("model", "")
    if (timeout := options.get("timeout")) is not None:
        options["timeout"] = schedule_of(timeout)
    if config.url is not None:
        url = config.url.rstrip("/")
        options["url"] = url.removesuffix(next((route for route in ROUTES if url.endswith(route)), ""))
    return as_embedder(f"{kind}:{model}" if model else kind, **options)


def _given(config: msgspec.Struct) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(config).items() if value is not None}


def _check(found: YamlFile, at: Place, config: VectorizerConfig) -> None:
    """Raise ConfigError, with a line, for what has the right type and no meaning."""
    checks: list[tuple[Place, Any]] = [
        (("document_processor",), lambda: as_chunking(config.chunking)),
        (("include_patterns",), lambda: Patterns(config.include_patterns)),
        (("exclude_patterns",), lambda: Patterns(config.exclude_patterns)),
        (("schedule",), lambda: config.schedule is None or schedule_of(config.schedule)),
    ]
    for where, check in checks:
        try:
            check()
        except ConfigError as error:
            found.refuse((*at, *where), str(error))
    embedder = config.embedder
    if embedder.type not in EMBEDDERS:
        found.refuse(
            (*at, "embedder", "type"), f"expected an embedder of {', '.join(EMBEDDERS)}, got {embedder.type!r:.80}"
        )
    key: Place = (*at, "embedder", "api_key")
    if embedder.api_key is not None and not found.is_from_environment(key):
        found.refuse(key, "expected a key as ${NAME} from the environment: keys do not belong into files")


def _refuse_absent(found: YamlFile) -> None:
    data: Any = found.data
    several = data.get("vectorizers") if isinstance(data, dict) else None
    for i, one in enumerate(several if isinstance(several, list) else ()):
        inner = one.get("document_processor") if isinstance(one, dict) else None
        for here, at in ((one, ("vectorizers", i)), (inner, ("vectorizers", i, "document_processor"))):
            if not isinstance(here, dict):
                continue
            for key in ABSENT.keys() & here.keys():
                if here.pop(key):  # switched off it is no harm
                    found.refuse((*at, key), f"{key!r} is not served: {ABSENT[key]}")


_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[\.\.\.\]")


def _explain(found: YamlFile, message: str) -> NoReturn:
    """Raise what msgspec found wrong, with the line: it names the place as ``$.vectorizers[0].source``."""
    whole = _AT.fullmatch(message)
    assert whole is not None
    where = tuple(name or int(number) for name, number in _STEP.findall(whole["where"] or "$") if name or number)
    if (unknown := _UNKNOWN.fullmatch(whole["what"])) is not None:
        found.refuse((*where, unknown[1]), f"{unknown[1]!r:.80} is no option here")
    if (missing := _MISSING.fullmatch(whole["what"])) is not None:
        found.refuse(where, f"{missing[1]!r} is missing")
    what = (
        whole["what"].replace("`", "").replace("Expected", "expected").replace("Invalid enum value", "no such choice:")
    )
    found.refuse(where, f"{where[-1] if where else 'the file'!s}: {what}")
