"""Keep files under 400 lines and functions under 50, with a ratchet.

An exception lives in `tools/sizes.toml` with its reason and its present size; it may shrink, never grow,
and an exception that is no longer needed is an error too.
"""

import ast
import pathlib
import sys
import tomllib

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
ROOT = pathlib.Path(__file__).resolve().parent.parent


def sizes(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Name → (lines, limit) of a file and of each of its functions; of those with one name the longest."""
    text = path.read_text()
    name = path.relative_to(ROOT).as_posix()
    found = {name: (text.count("\n"), FILE_LINES_MAX)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            function = f"{name}:{node.name}"
            found[function] = max(found.get(function, (0, 0)), (lines, FUNCTION_LINES_MAX))
    return found


def main() -> int:
    """Print what is too long; 1 if anything is."""
    listed = tomllib.loads((ROOT / "tools/sizes.toml").read_text())
    allowed: dict[str, int] = {entry["name"]: entry["lines"] for entry in listed.get("exception", [])}
    problems: list[str] = []
    needed: set[str] = set()
    for folder in ("daemon", "tests", "tools", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name, (lines, limit) in sizes(path).items():
                if lines <= limit:
                    continue
                needed.add(name)
                if lines > allowed.get(name, limit):
                    problems.append(f"{name}: {lines} lines, {allowed.get(name, limit)} allowed")
                elif lines < allowed[name]:
                    problems.append(f"{name}: its exception is of {allowed[name]} lines: write {lines}")
    problems += [f"{name}: the exception is no longer needed: remove it" for name in allowed.keys() - needed]
    for problem in problems:
        print(problem)
    print(f"sizes: {len(problems)} problem(s), {len(allowed)} exception(s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
