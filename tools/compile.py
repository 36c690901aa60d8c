"""Compile the path of a request to machine code: tools/compile.py FOLDER

Copies the package to FOLDER and compiles there what lies between a caller's bytes and a provider's, with mypyc and the
machine's C compiler. The sources stay as they are and mean the same: what is compiled is the same Python, by the types
that are checked anyway. FOLDER stands before the package on the path then: PYTHONPATH=FOLDER pointsman proxy …

Nothing is compiled in place, so that no edit is ever shadowed by something older.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "pointsman"
# What every request goes through. mypyc drops what stands behind the base of a class and in Annotated: a Struct that
# needs a tag or a bound lives in a module that is not compiled (api.py, usage.py).
MODULES = (
    "core/latency",
    *(
        f"proxy/{name}"
        for name in (
            "alarm", "arms", "asked", "attempt", "body", "books", "caller", "callers", "clock", "dial", "forward",
            "headers", "http1", "job", "judging", "lenient", "limits", "local", "logged", "outbox", "outcomes", "pick",
            "pins", "provider", "ratelimits", "reader", "relay", "replies", "requests", "routing", "server", "settling",
            "sse", "tokens", "transit",
        )
    ),
)  # fmt: skip


def main() -> int:
    """Compile; 1 if that is not possible here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    folder: pathlib.Path = parser.parse_args().folder.resolve()
    if shutil.which(os.environ.get("CC", "cc")) is None:
        print(
            "there is no C compiler: install one (Debian: gcc), or go on without compiling", file=sys.stderr
        )
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PACKAGE, folder / "pointsman", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    print(f"compiling {len(MODULES)} modules of the proxy into {folder} ...", flush=True)
    build = folder / "build"
    command = [sys.executable, __file__, "--build", str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", file=sys.stderr)
        return 1
    shutil.rmtree(build, ignore_errors=True)
    return 0


def build_in(folder: pathlib.Path) -> None:
    """In a process and a folder of its own: compile the copy in place."""
    from mypyc.build import mypycify  # noqa: PLC0415  neither is needed to look at the help
    from setuptools import setup  # noqa: PLC0415

    sys.path.insert(0, str(folder))
    sources = [f"pointsman/{name}.py" for name in MODULES]
    options = ["build_ext", "--inplace"]
    with contextlib.chdir(folder):
        modules = mypycify(["--config-file", str(ROOT / "pyproject.toml"), *sources], opt_level="3")
        setup(name="pointsman-compiled", ext_modules=modules, script_args=options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        build_in(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(main())
