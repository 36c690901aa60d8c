"""Plant small bugs in the core, one at a time, and count how many of them the tests catch.

    tools/mutate.py                        a sample of 300 over the whole core
    tools/mutate.py --module health        only of one module
    tools/mutate.py --module gates         of all modules in a folder; gates.errors is one of them
    tools/mutate.py --sample 0             every mutant there is

The checkout is copied first, so that work on it goes on meanwhile, and is never written to. pytest is imported
once; every mutant is a fork, which gives the mutated module to the import system in place of the copied file and
runs the tests of that module, then those of the rest of the core, until the first failure. Who survives is
printed with its place and what was changed.

What people read is left alone (docstrings, strings, f-strings), and so are annotations.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import hypothesis.stateful  # noqa: F401  (so that no child has to)
import msgspec  # noqa: F401  (likewise)
import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORE = "daemon/pointsman/core"
PROXY = "daemon/pointsman/proxy"  # what a caller sees of a table is a property of the tables
COPIED = (
    "pyproject.toml",
    "daemon/pointsman/__init__.py",
    f"{PROXY}/__init__.py",
    f"{PROXY}/settling.py",
    CORE,
    "tests/core",
    "tests/scenarios",
)
PASSED, COLLECTION_FAILED, BROKEN = 0, 2, 99  # the first two are pytest's
FLIPS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SWAPS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
FOR_PEOPLE = {"text", "detail"}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One small bug: where it is, what it says, and the module's text with it. `module`: "health", "gates.errors"."""

    module: str
    line: int
    change: str
    source: str


def file_of(module: str) -> str:
    """Where a module of the core lies, from the root of the checkout."""
    return f"{CORE}/{module.replace('.', '/')}.py"


def modules(root: pathlib.Path) -> list[str]:
    """Every module of the core by its name, those of its folders too."""
    found = (path.relative_to(root / CORE) for path in (root / CORE).rglob("[a-z]*.py"))
    return sorted(".".join(path.with_suffix("").parts) for path in found)


# --- the bugs


def mutants(root: pathlib.Path, module: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse((root / file_of(module)).read_text())
    _mark_rebindings(tree)
    for node in list(_mutable(tree)):
        for change, apply in _changes(node):
            undo = _applied(node, apply)
            source = ast.unparse(tree)
            undo()
            yield Mutant(module, node.lineno, change, source)


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may be changed: no annotation, nothing that people read."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "bases"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.JoinedStr | ast.Import | ast.ImportFrom
            ):
                continue
            if hasattr(child, "lineno"):
                yield child
            yield from _mutable(child)


Apply = Callable[[ast.AST], None]


def _set(field: str, value: object) -> Apply:
    return lambda node: setattr(node, field, value)


def _changes(node: ast.AST) -> Iterator[tuple[str, Apply]]:
    """The changes of one node: (what is said about it, what does it)."""
    yield from _of_operators(node)
    yield from _of_values(node)
    yield from _of_statements(node)


def _of_operators(node: ast.AST) -> Iterator[tuple[str, Apply]]:
    match node:
        case ast.Compare(ops=[operator]):
            for flipped in FLIPS.get(type(operator), ()):
                yield (
                    f"{_text(node)}: {type(operator).__name__} → {flipped.__name__}",
                    _set("ops", [flipped()]),
                )
        case ast.BoolOp(op=operator, values=values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"{_text(node)}: and ↔ or", _set("op", other)
            for place, value in enumerate(values):
                rest = values[:place] + values[place + 1 :]
                yield f"{_text(node)}: without {_text(value)}", _set("values", rest if rest[1:] else rest * 2)
        case ast.BinOp(op=operator) if type(operator) in SWAPS:
            swapped = SWAPS[type(operator)]
            yield f"{_text(node)}: {type(operator).__name__} → {swapped.__name__}", _set("op", swapped())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"{_text(node)}: without not", _set("operand", ast.UnaryOp(ast.Not(), operand))


def _of_values(node: ast.AST) -> Iterator[tuple[str, Apply]]:
    match node:
        case ast.Constant(value=bool(value)):
            yield f"{value} → {not value}", _set("value", not value)
        case ast.Constant(value=int(value) | float(value)):
            for other in (value + 1, value - 1):
                yield f"{value} → {other}", _set("value", other)
        case ast.Name(id=name) if name in NAMES:
            yield f"{name} → {NAMES[name]}", _set("id", NAMES[name])
        case ast.Call(func=function, keywords=keywords):
            for keyword in keywords:
                if keyword.arg is not None and keyword.arg not in FOR_PEOPLE:
                    rest = [other for other in keywords if other is not keyword]
                    yield f"{_text(function)}(…): without {_text(keyword)}", _set("keywords", rest)


def _of_statements(node: ast.AST) -> Iterator[tuple[str, Apply]]:
    match node:
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield f"{_text(node)}: returns None", _set("value", ast.Constant(None))
        case ast.If(test=test) | ast.IfExp(test=test):
            yield f"if {_text(test)}: if not", _set("test", ast.UnaryOp(ast.Not(), test))
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield from _deletions(field, block)


def _deletions(field: str, block: list[ast.stmt]) -> Iterator[tuple[str, Apply]]:
    """Statements whose absence still leaves a program: a call, `continue`, `raise`, another value for a name."""
    for place, statement in enumerate(block):
        kinds = ast.AugAssign | ast.Continue | ast.Raise
        called = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        if isinstance(statement, kinds) or called or getattr(statement, "rebinds", False):
            rest = [*block[:place], ast.copy_location(ast.Pass(), statement), *block[place + 1 :]]
            yield f"deleted: {_text(statement)}", _set(field, rest)


def _mark_rebindings(tree: ast.AST) -> None:
    """Mark assignments to a name that had a value before, which is what a deletion leaves it with."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        given = function.args
        known = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        for statement in ast.walk(function):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)]):
                    statement.rebinds = name in known  # type: ignore[attr-defined]
                    known.add(name)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _text(node: ast.AST) -> str:
    text = ast.unparse(node).replace("\n", " ")
    return text if len(text) <= 70 else text[:67] + "…"


def _applied(node: ast.AST, apply: Apply) -> Callable[[], None]:
    before = copy.copy(node.__dict__)
    apply(node)
    return lambda: node.__dict__.update(before)


# --- the trial of one mutant, in a child of its own


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives out the mutated text when its module is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = f"pointsman.core.{mutant.module}"
        self.source = mutant.source

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self.source, f"<mutant of {self.name}>", "exec"), module.__dict__)  # noqa: S102


def order(root: pathlib.Path, module: str) -> list[str]:
    """The tests: those of the module first, then the rest, the slow ones last."""
    tests = root / "tests/core"
    found = [path for path in tests.glob("test_*.py") if path.stem != "test_cadence" or module == "cadence"]
    slow = tests / "test_machine.py"
    own = f"test_{module.partition('.')[0]}"
    found.sort(key=lambda path: (path == slow, not path.stem.startswith(own), path))
    return [str(path) for path in [*found[:-1], root / "tests/scenarios/test_scenarios.py", found[-1]]]


def child(root: pathlib.Path, mutant: Mutant | None) -> int:
    """Run the tests against the mutant (None: the code as it is); pytest's exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, max_examples=16, database=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settings.load_profile("mutants")
    sys.path[:0] = [str(root / "tests/core"), str(root / "daemon")]
    sys.dont_write_bytecode = True
    if mutant is not None:
        sys.meta_path.insert(0, Planted(mutant))
    options = ["-x", "-q", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", "-W", "ignore"]
    tests = order(root, mutant.module if mutant else "")
    return int(pytest.main([*options, "-c", str(root / "pyproject.toml"), *tests]))


@dataclass
class Trial:
    """A child at work on one mutant."""

    mutant: Mutant | None
    pid: int
    until_s: float

    @classmethod
    def start(cls, root: pathlib.Path, mutant: Mutant | None, limit_s: float) -> "Trial":
        pid = os.fork()
        if pid == 0:
            code = BROKEN
            try:
                code = child(root, mutant)
            finally:
                os._exit(code)
        return cls(mutant, pid, time.monotonic() + limit_s)

    def over(self) -> int | None:
        """None while it works; then pytest's exit code, or a signal's negative number."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() < self.until_s:
            return None
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return -signal.SIGKILL


def trials(
    root: pathlib.Path, sample: Sequence[Mutant | None], jobs: int, limit_s: float
) -> Iterator[tuple[Mutant | None, int]]:
    """Each mutant with its exit code, as they end, `jobs` at a time."""
    waiting, running = list(reversed(sample)), list[Trial]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Trial.start(root, waiting.pop(), limit_s))
        time.sleep(0.01)
        for one in list(running):
            code = one.over()
            if code is not None:
                running.remove(one)
                yield one.mutant, code


# --- the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--module", action="append", help="only of this module (may be repeated)")
    parser.add_argument("--sample", type=int, default=300, help="how many, drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--floor", type=float, default=90.0, help="fail under this kill rate in percent")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one mutant")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    return parser.parse_args()


def drawn(root: pathlib.Path, given: argparse.Namespace) -> list[Mutant]:
    asked = given.module or [""]
    names = [
        name for name in modules(root) if any(one in {"", name, name.partition(".")[0]} for one in asked)
    ]
    if not names:
        sys.exit(f"there is no such module; there are: {', '.join(modules(root))}")
    every = [mutant for name in names for mutant in mutants(root, name)]
    if not 0 < given.sample < len(every):
        return every
    return sorted(random.Random(given.seed).sample(every, given.sample), key=lambda m: (m.module, m.line))


def copied(to: pathlib.Path) -> None:
    for name in COPIED:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)


def measured(root: pathlib.Path, given: argparse.Namespace) -> int:
    """Print who survives and the kill rate; 1 under the floor, 2 if the tests do not even run."""
    sample = drawn(root, given)
    began_s = time.monotonic()
    for _, code in trials(root, [None], 1, given.limit):
        if code != PASSED:
            print(f"the tests fail without any mutant (pytest's exit code {code}): nothing to measure")
            return 2
    print(
        f"{len(sample)} mutants; without one the tests pass in {time.monotonic() - began_s:.1f} s", flush=True
    )
    began_s, survivors = time.monotonic(), 0
    for mutant, code in trials(root, sample, given.jobs, given.limit):
        if code > COLLECTION_FAILED:
            print(f"pytest did not run (exit code {code})")
            return 2
        if code == PASSED and mutant is not None:
            survivors += 1
            print(f"survived  {file_of(mutant.module)}:{mutant.line}  {mutant.change}", flush=True)
    rate = 100 * (1 - survivors / len(sample)) if sample else 100.0
    took_s = time.monotonic() - began_s
    print(f"killed {len(sample) - survivors} of {len(sample)} ({rate:.1f} %) in {took_s:.0f} s")
    return 0 if rate >= given.floor else 1


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied(pathlib.Path(folder))
        return measured(pathlib.Path(folder), given)


if __name__ == "__main__":
    sys.exit(main())
