"""The simplest value that fits a JSON schema."""

from typing import Any

import pytest

from pointsman.fake.schema import example

SCHEMAS: dict[str, tuple[dict[str, Any], Any]] = {
    "string": ({"type": "string"}, "Ur"),
    "integer": ({"type": "integer"}, 0),
    "number": ({"type": "number"}, 0),
    "boolean": ({"type": "boolean"}, True),
    "null": ({"type": "null"}, None),
    "array": ({"type": "array", "items": {"type": "string"}}, []),
    "filled array": ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["Ur", "Ur"]),
    "anything": ({}, "Ur"),
    "no type but items": ({"items": {}}, []),
    "no type but properties": ({"properties": {}}, {}),
    "several types": ({"type": ["boolean", "null"]}, True),
    "constant": ({"const": 7, "type": "integer"}, 7),
    "enumeration": ({"type": "string", "enum": ["up", "down"]}, "up"),
    "minimum": ({"type": "integer", "minimum": 2.5}, 3),
    "minimum of a number": ({"type": "number", "minimum": 2.5}, 2.5),
    "above": ({"type": "integer", "exclusiveMinimum": 4}, 5),
    "above nothing": ({"type": "integer", "exclusiveMinimum": 0}, 1),
    "maximum": ({"type": "integer", "maximum": -1.5}, -2),
    "below": ({"type": "integer", "exclusiveMaximum": 0}, -1),
    "long string": ({"type": "string", "minLength": 4}, "Ur.."),
    "short string": ({"type": "string", "maxLength": 1}, "U"),
    "one of several": ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
    "several beside what they share": (
        {"type": "object", "properties": {"up": {"type": "boolean"}}, "anyOf": [{"required": ["up"]}]},
        {"up": True},
    ),
    "reference": ({"$ref": "#/$defs/a~1b"}, True),
    "reference to nowhere": ({"$ref": "#/$defs/none/at/all"}, None),
    "within itself": ({"$ref": "#/$defs/train"}, {"next": None}),
}
DEFINED = {
    "a/b": {"type": "boolean"},
    "train": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/train"}, {"type": "null"}]}},
        "required": ["next"],
    },
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_example(name: str) -> None:
    """Each kind of schema has its value."""
    schema, value = SCHEMAS[name]
    whole = {"type": "object", "properties": {"it": schema}, "required": ["it"], "$defs": DEFINED}
    assert example(whole, "Ur") == {"it": value}


def test_only_what_is_required() -> None:
    """What may be left out is left out."""
    properties = {"station": {"type": "string"}, "track": {"type": "integer"}}
    assert example({"type": "object", "properties": properties, "required": ["track"]}, "Ur") == {"track": 0}


@pytest.mark.parametrize(
    "schema",
    [None, [], "object", {"type": "string"}, {"type": 3}, {"required": 3, "properties": 3}, {"$ref": "#"}],
    ids=["none", "list", "text", "string", "number", "wrong parts", "itself"],
)
def test_arguments_are_an_object(schema: object) -> None:
    """Whatever is offered as a schema, there is an object."""
    assert example(schema, "Ur") == {}


def test_depth() -> None:
    """A schema that goes very deep ends with null."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"in": schema}, "required": ["in"]}
    value, depth = example(schema, "Ur"), 0
    while value is not None:
        value, depth = value["in"], depth + 1
    assert 50 < depth < 100
