"""A value that fits a JSON schema, as simply as can be: what is required and nothing else."""

import math
from typing import Any, Final

# Deeper than any tool's arguments; what lies below is null.
_DEPTH_MAX: Final = 64
# A schema may ask for more; nobody learns anything from that.
_ITEMS_MAX: Final = 100
_LETTERS_MAX: Final = 10_000


def example(schema: object, text: str) -> dict[str, Any]:
    """An object that fits `schema`, the same whenever it is asked for. Its strings are `text` where they are free.

    Patterns, formats and multiples are not looked at; a schema within itself ends with null.
    """
    value = _Maker(schema, text).value(schema, ("#",))
    return value if isinstance(value, dict) else {}


class _Maker:
    """Makes the parts of one example. A `path` holds the references that led to a part, "" for any other step."""

    def __init__(self, root: object, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: object, path: tuple[str, ...]) -> Any:
        if not isinstance(schema, dict) or len(path) > _DEPTH_MAX:
            return None
        if "const" in schema:
            return schema["const"]
        match schema:
            case {"enum": [first, *_]}:
                return first
            case {"$ref": str(reference)}:
                below = (*path, reference)
                return None if reference in path else self.value(self._at(reference), below)
        for several in ("anyOf", "oneOf", "allOf"):
            match schema.get(several):
                case [dict(first), *_]:
                    others = {name: part for name, part in schema.items() if name != several}
                    return self.value({**others, **first}, (*path, ""))
        return self._of_type(schema, path)

    def _of_type(self, schema: dict[str, Any], path: tuple[str, ...]) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, path)
            case "array":
                count = min(_number(schema, "minItems", 0), _ITEMS_MAX)
                return [self.value(schema.get("items", {}), (*path, "")) for _ in range(int(count))]
            case "string":
                return self._string(schema)
            case "integer" | "number" as kind:
                return _least(schema, whole=kind == "integer")
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        required, properties = schema.get("required"), schema.get("properties")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        known = properties if isinstance(properties, dict) else {}
        return {name: self.value(known.get(name, {}), (*path, "")) for name in names}

    def _string(self, schema: dict[str, Any]) -> str:
        least = int(min(_number(schema, "minLength", 0), _LETTERS_MAX))
        most = int(min(_number(schema, "maxLength", math.inf), len(self._text) + _LETTERS_MAX))
        return self._text.ljust(least, ".")[: max(0, most)]

    def _at(self, reference: str) -> object:
        """The part of the schema that "#/$defs/train" names, None for what is not there."""
        part = self._root
        for name in reference.removeprefix("#").split("/")[1:]:
            if not isinstance(part, dict):
                return None
            part = part.get(name.replace("~1", "/").replace("~0", "~"))
        return part if reference.startswith("#") else None


def _type_of(schema: dict[str, Any]) -> object:
    """Its type, the first of several; where there is none, what its words are about, or a string."""
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if kind is not None:
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _least(schema: dict[str, Any], *, whole: bool) -> float:
    """The number within the bounds that is nearest to nothing."""
    value: float = max(0, _number(schema, "minimum", 0))
    above = _number(schema, "exclusiveMinimum", -1)
    if above >= value:
        value = above + 1
    value = math.ceil(value) if whole else value
    most = _number(schema, "maximum", value)
    below = _number(schema, "exclusiveMaximum", value + 1)
    if below <= value:
        most = min(most, below - 1)
    if most < value:
        value = math.floor(most) if whole else most
    return value


def _number(schema: dict[str, Any], name: str, otherwise: float) -> float:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
