"""What is in a file of this name?"""

from __future__ import annotations

import os

__all__ = ["LANGUAGES", "SUFFIXES", "kind_of", "language_of"]

# Source code by suffix; what it is called is shown in the metadata, and tells how its definitions look.
LANGUAGES = {
    ".bash": "shell",
    ".c": "c",
    ".cc": "cpp",
    ".cfg": "ini",
    ".clj": "lisp",
    ".cpp": "cpp",
    ".cs": "csharp",
    ".css": "css",
    ".cxx": "cpp",
    ".dart": "dart",
    ".ex": "elixir",
    ".exs": "elixir",
    ".go": "go",
    ".h": "c",
    ".hpp": "cpp",
    ".ini": "ini",
    ".java": "java",
    ".jl": "julia",
    ".js": "javascript",
    ".json": "json",
    ".jsx": "javascript",
    ".kt": "kotlin",
    ".lua": "lua",
    ".m": "objectivec",
    ".mjs": "javascript",
    ".php": "php",
    ".pl": "perl",
    ".proto": "proto",
    ".ps1": "powershell",
    ".pxd": "python",
    ".py": "python",
    ".pyi": "python",
    ".pyx": "python",
    ".r": "r",
    ".rb": "ruby",
    ".rs": "rust",
    ".scala": "scala",
    ".scss": "css",
    ".sh": "shell",
    ".sql": "sql",
    ".swift": "swift",
    ".toml": "toml",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".xml": "xml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".zig": "zig",
}
SUFFIXES = {
    ".csv": "csv",
    ".docx": "docx",
    ".htm": "html",
    ".html": "html",
    ".jsonl": "jsonl",
    ".log": "text",
    ".markdown": "markdown",
    ".md": "markdown",
    ".mdx": "markdown",
    ".ndjson": "jsonl",
    ".pdf": "pdf",
    ".rst": "text",
    ".tsv": "csv",
    ".txt": "text",
    ".xhtml": "html",
    **dict.fromkeys(LANGUAGES, "code"),
}


def kind_of(name: str) -> str:
    """Return the kind of a document by the suffix of its file; a file of an unknown one may be text."""
    return SUFFIXES.get(_suffix(name), "text")


def language_of(name: str) -> str | None:
    """Return the language of source code by the suffix of its file."""
    return LANGUAGES.get(_suffix(name))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
