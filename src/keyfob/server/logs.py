"""Logs: structlog, as JSON lines when nobody sits at a terminal. No query, header or body is ever logged."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from keyfob.base.redaction import redacted

MAX_TEXT = 2000  # characters of any one field
MAX_FRAMES = 30  # of a traceback, the innermost

Fields = MutableMapping[str, Any]


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send everything, structlog's and the standard library's, to *stream* (stderr by default) from *level* on."""
    output = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_fields,
        _plain_exception,
        _redacted,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if output.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def describe(error: BaseException) -> dict[str, object]:
    """Return what a log may say of *error*: its type, its message without secrets, and where it came from; no values of variables."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return {
        "error": type(error).__name__,
        "message": redact(str(error)),
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def redact(text: str) -> str:
    """Return *text* with whatever looks like a credential of ours left out, and cut to `MAX_TEXT` characters."""
    return redacted(text)[:MAX_TEXT]


def _with_fields(_logger: object, _name: str, fields: Fields) -> Fields:
    """Take over the fields that a standard logger was given (`extra={"fields": ...}`)."""
    record = fields.get("_record")
    extra = getattr(record, "fields", None)
    if isinstance(extra, dict):
        for name, value in extra.items():
            fields.setdefault(name, value)
    return fields


def _plain_exception(_logger: object, _name: str, fields: Fields) -> Fields:
    """Replace a traceback by `describe`: renderers of tracebacks show the values of variables."""
    given = fields.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        fields.update(describe(error))
    return fields


def _redacted(_logger: object, _name: str, fields: Fields) -> Fields:
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = redact(value)
    return fields
