"""Structured logs on the standard library's logging, and the one place that keeps secrets out of text.

    log = logs.get("breaker")
    log.warning("marked {target} failed", target="bedrock", failures=3, cooldown_s=30)

    text  2026-01-31T03:12:09.120Z WARNING [breaker] marked bedrock failed (failures: 3, cooldown_s: 30)
    json  {"ts": …, "level": "warning", "part": "breaker", "message": "marked bedrock failed", "target": …}

Fields named in the message stand in the sentence, the others behind it; the JSON form has all of them.
"""

import json
import logging
import re
import sys
import traceback
import urllib.parse
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

ROOT: Final = "pointsman"
HIDDEN: Final = "[secret]"
# Something shorter is no secret, and hiding it would make every line unreadable.
SECRET_LENGTH_MIN: Final = 4

# After "GEMINI_API_KEY: " these begin a sentence about the key ("the variable is not set"), and are no key.
_SENTENCE: Final = r"(?:the|is|was|has|no|not|a|an|must|cannot|missing)(?=[\s.,;:)]|$)"
_NAMED: Final = (
    r"(?P<named>\b(?:proxy-)?authorization|x-api-key|api[-_]?key|x-goog-api-key|x-amz-security-token)"
    r"(?P<between>[\"']?\s*[:=]\s*[\"']?)(?!(?<=\s)"
    + _SENTENCE
    + r")(?:(?:bearer|basic)\s+)?[^\s\"',;&)}\]]+"
)
_SHAPED: Final = re.compile(
    "|".join(
        (
            _NAMED,
            r"(?P<bearer>\bbearer\s+)[A-Za-z0-9._~+/=-]{4,}",
            r"\b(?:sk|rk|pk|gsk|xai|key)-[A-Za-z0-9_-]{8,}",
            r"\bpm-[A-Za-z0-9_-]{40,}",
            r"\bAIza[A-Za-z0-9_-]{20,}",
            r"\b(?:AKIA|ASIA|ABSK)[A-Za-z0-9+/=]{12,}",
            r"(?P<query>[?&](?:key|token|api[-_]?key|access_token|sig|signature)=)[^\s&\"'#]+",
            r"(?P<user>://)[^\s/@\"']+@",
        )
    ),
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_FIELD: Final = re.compile(r"\{(\w+)\}")


class _Vault:
    """The secrets that this process knows, as one pattern; compiled again when one is added."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        if len(value) < SECRET_LENGTH_MIN:
            return
        # A secret also leaks when it is quoted for a URL or escaped for JSON.
        self._known |= {value, urllib.parse.quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def hide(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


_vault: Final = _Vault()


def register_secret(value: str) -> None:
    """From now on `value` (and its quoted forms) never appears in a log line, a traceback or a span."""
    _vault.add(value.strip())


def redact(text: str) -> str:
    """`text` without known secrets and without anything shaped like a key."""
    return _SHAPED.sub(_hide_shape, _vault.hide(text))


def _hide_shape(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups["named"]:
        return f"{groups['named']}{groups['between']}{HIDDEN}"
    if groups["user"]:
        return f"{groups['user']}{HIDDEN}@"
    return f"{groups['bearer'] or groups['query'] or ''}{HIDDEN}"


class Log:
    """A part's logger. Messages may name fields in braces; a message never fails to be formatted."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, /, **fields: Any) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        self._write(logging.ERROR, message, fields)

    def exception(self, message: str, error: BaseException | None = None, /, **fields: Any) -> None:
        """As `error`, with the traceback of `error`, or of the exception that is being handled."""
        self._write(logging.ERROR, message, fields, exc_info=error or True)

    def _write(
        self, level: int, message: str, fields: dict[str, Any], *, exc_info: BaseException | bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            # The message is an argument, not the format, so that a % or a brace in it stays what it is.
            self._logger.log(level, "%s", message, exc_info=exc_info, extra={"fields": fields})


def get(name: str) -> Log:
    """The logger of a part: "breaker", "proxy", "probing" …"""
    return Log(logging.getLogger(f"{ROOT}.{name}"))


def setup(
    fmt: Literal["text", "json"],
    level: str,
    *,
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Write logs to `stream` (standard error) from `level` on; other libraries' logs from warning on.

    May be called again, for a reload or a test: the last call holds. `secrets` are registered first.
    """
    for secret in secrets:
        register_secret(secret)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if fmt == "json" else _TextFormatter())
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())


class _Formatter(logging.Formatter):
    """What both forms need of a record: its part, sentence, fields and traceback, all redacted."""

    def part(self, record: logging.LogRecord) -> str:
        return record.name.removeprefix(f"{ROOT}.") if record.name.startswith(ROOT) else record.name

    def read(self, record: logging.LogRecord) -> tuple[str, dict[str, Any], set[str]]:
        """(sentence, fields, names of the fields that stand in the sentence)."""
        fields = {name: _plain(value) for name, value in getattr(record, "fields", {}).items()}
        message = record.getMessage()
        named = {name for name in _FIELD.findall(message) if name in fields}
        sentence = _FIELD.sub(lambda match: _text(fields.get(match[1], match[0])), message)
        return redact(sentence), fields, named

    def trace(self, record: logging.LogRecord) -> str:
        if not record.exc_info or record.exc_info[0] is None:
            return ""
        return redact("".join(traceback.format_exception(*record.exc_info)).rstrip())


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        sentence, fields, named = self.read(record)
        rest = ", ".join(f"{name}: {_text(value)}" for name, value in fields.items() if name not in named)
        # One record is one line: a stranger's line break must not look like a record of ours.
        line = _one_line(f"{sentence} ({rest})" if rest else sentence)
        trace = self.trace(record)
        head = f"{_timestamp(record)} {record.levelname} [{self.part(record)}]"
        return f"{head} {line}" + (f"\n{trace}" if trace else "")


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        sentence, fields, _ = self.read(record)
        line = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "part": self.part(record),
            "message": sentence,
        }
        trace = self.trace(record)
        if trace:
            line["traceback"] = trace
        return json.dumps(
            line | {_free(name, line): value for name, value in fields.items()}, ensure_ascii=False
        )


def _free(name: str, taken: dict[str, str]) -> str:
    """A field that is called like one of the line's own keys keeps its value under another name."""
    return f"{name}_" if name in taken or name == "traceback" else name


def _timestamp(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _plain(value: object) -> Any:
    """A redacted value that JSON can carry."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {redact(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return redact(str(value))


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)
