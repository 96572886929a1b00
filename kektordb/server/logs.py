"""What does the server write to its log? Lines for people or JSON for machines; no values, no paths, no tracebacks."""

from __future__ import annotations

import json
import logging
import sys

__all__ = ["LEVELS", "start_logging"]

LEVELS = ("debug", "info", "warning", "error")


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname.lower()} {record.name}: {_message(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        return json.dumps(fields, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """Return the message on one line; of an error its class alone, as its text may hold paths and values."""
    message = record.getMessage().strip().replace("\n", " ")
    if record.exc_info and record.exc_info[0] is not None:
        message += f" ({record.exc_info[0].__name__})"
    return message


def start_logging(level: str, as_json: bool) -> None:
    """Let the log go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Line())
    for name, at_least in (("kektordb", level), ("uvicorn", "warning" if level == "info" else level)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(at_least.upper())
