"""YAML as a configuration needs it: the line of every key, no key twice, no surprises of YAML 1.1.

`no` and `on` are text, dates are text, 012 is twelve, and `<<` merges nothing; true, false, null and numbers are what
YAML 1.2 says.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from pointsman.config.errors import ConfigError, KeyPath, Problem, dotted

NODES_MAX: Final = 200_000
TAG: Final = "tag:yaml.org,2002:"
# Of a stranger's text only single characters may appear in a message: `'@'` and `'\\t'` yes, `'sk-…'` no; what is in
# angle brackets is PyYAML's own word for a token.
_QUOTED: Final = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_HARMLESS: Final = re.compile(r".|\\(?:[a-z]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})|<[a-z ]+>")

# (kind, pattern, the letters that it may begin with; none: it is empty)
RESOLVERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL)$", "~nN"),
    ("null", r"^$", ""),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    """Only composes; `Document` builds the values from the nodes."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name: 1.1's are dropped


for _kind, _pattern, _first in RESOLVERS:
    _Loader.add_implicit_resolver(TAG + _kind, re.compile(_pattern), list(_first) or [""])


@dataclass(slots=True)
class Document:
    """A file's content. `lines` has the line (from 1) of every key and list item; `problems` the keys given twice."""

    file: str
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _nodes: int = 0

    def line(self, path: KeyPath) -> int | None:
        """The line of the key, or of the nearest key that holds it."""
        while path not in self.lines:
            if not path:
                return None
            path = path[:-1]
        return self.lines[path]

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of a node, noting lines and keys given twice on the way. Raises ConfigError."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _refusal(self.file, node, "the file has too many values", "write out fewer aliases (*name)")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal(self.file, key_node, "a key is a list or a mapping", "write a name as the key")
            # Every key of a configuration is a name, so `4:` and `on:` are the texts that they look like.
            key: str = key_node.value
            line = key_node.start_mark.line + 1
            if key in built:
                first = self.lines[(*path, key)]
                text = f"the key is given twice, first in line {first}"
                problem = Problem(self.file, line, dotted((*path, key)), text, "remove one of the two")
                self.problems.append(problem)
                continue
            self.lines[(*path, key)] = line
            built[key] = self.build(value_node, (*path, key))
        return built

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(TAG)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                return int(text)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            raise _refusal(
                self.file, node, "the number cannot be read", "write a plain number", path
            ) from None
        if kind != "str":
            raise _refusal(self.file, node, "a YAML tag is not allowed here", "write the plain value", path)
        return text


def parse(text: str, file: str) -> Document:
    """The document in `text`; `file` is the name for messages. Raises ConfigError for what is not YAML."""
    document = Document(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = document.build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        why = _QUOTED.sub(_without_text, error.problem or "it cannot be parsed")
        cure = "check the indentation, the colons and the quotes from this line upwards"
        raise ConfigError([Problem(file, line, "", f"this is not YAML: {why}", cure)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = Problem(file, line, "", "a control character is in the file", "remove it")
        raise ConfigError([problem]) from None
    except RecursionError:
        problem = Problem(file, None, "", "the file is nested too deeply, or holds itself", "write it flat")
        raise ConfigError([problem]) from None
    return document


def _without_text(quoted: re.Match[str]) -> str:
    return quoted[0] if _HARMLESS.fullmatch(quoted[1] or quoted[2] or "") else "a value"


def _refusal(file: str, node: yaml.Node, text: str, cure: str, path: KeyPath = ()) -> ConfigError:
    return ConfigError([Problem(file, node.start_mark.line + 1, dotted(path), text, cure)])
