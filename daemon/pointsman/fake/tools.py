"""Which tools a request makes the provider call, in the words of either family.

Only a forced call is made: with "auto" a model may as well speak, and so it does here. Where any tool will do, each
that is offered is called once, in its order, or the first alone where calls in parallel are not wanted. Tools that
run at the provider are not called.
"""

from typing import Any

from pointsman.fake.dialect import Refusal, Tool


def forced_functions(body: dict[str, Any]) -> list[Tool]:
    """What Chat Completions and Responses have to call, [] where they may speak. Raises Refusal.

    The one has a function's name and parameters in an object of their own, the other beside its type.
    """
    choice = body.get("tool_choice")
    names: list[Any] | None = None
    match choice:
        case "required":
            pass
        case {"type": "function"}:
            names = [_inner(choice, "function").get("name")]
        case {"type": "allowed_tools"} if _inner(choice, "allowed_tools").get("mode") == "required":
            allowed = _functions(_inner(choice, "allowed_tools"))
            names = [function.get("name") for function in allowed]
        case _:
            return []
    entries = _objects(body.get("tools"))
    if not entries:
        text = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise Refusal(400, text, param="tool_choice")
    functions = _functions(body)
    for name in _missing(names, functions):
        text = f"Tool choice '{str(name)[:80]}' not found in 'tools' parameter."
        raise Refusal(400, text, param="tool_choice")
    return _called(functions, "parameters", names, alone=body.get("parallel_tool_calls") is False)


def forced_tools(body: dict[str, Any]) -> list[Tool]:
    """What Messages has to call, [] where it may speak. Raises Refusal."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") not in ("any", "tool"):
        return []
    names = [choice.get("name")] if choice["type"] == "tool" else None
    entries = _objects(body.get("tools"))
    if not entries:
        raise Refusal(400, "tool_choice: may only be specified while providing tools")
    for name in _missing(names, entries):
        raise Refusal(400, f"tool_choice: Tool '{str(name)[:80]}' not found in provided tools")
    own = [entry for entry in entries if entry.get("type", "custom") == "custom"]
    return _called(own, "input_schema", names, alone=choice.get("disable_parallel_tool_use") is True)


def _called(
    entries: list[dict[str, Any]], schema: str, names: list[Any] | None, *, alone: bool
) -> list[Tool]:
    """Those of these names (None: any); `schema` is where the one of the arguments is."""
    tools = [
        Tool(entry["name"], entry.get(schema))
        for entry in entries
        if isinstance(entry.get("name"), str) and (names is None or entry["name"] in names)
    ]
    return tools[:1] if alone else tools


def _missing(names: list[Any] | None, entries: list[dict[str, Any]]) -> list[Any]:
    offered = [entry.get("name") for entry in entries]
    return [name for name in names or [] if name is None or name not in offered]


def _functions(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions among the tools of a body or of a choice."""
    listed = _objects(value.get("tools"))
    return [_inner(entry, "function") for entry in listed if entry.get("type") == "function"]


def _inner(value: Any, name: str) -> dict[str, Any]:
    """What is under `name`, or the object itself where nothing is."""
    inner = value.get(name, value) if isinstance(value, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
