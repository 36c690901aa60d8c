"""tools/sizes.py: what is too long is told, and an exception only shrinks."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools/sizes.py"
SHORT = "def one():\n    return 1\n"
LONG = "def one():\n" + "    pass\n" * 59  # 60 lines


@pytest.fixture
def sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, looking at an empty repository."""
    spec = importlib.util.spec_from_file_location("sizes", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "daemon").mkdir()
    return module


@pytest.fixture
def checked(
    sizes: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """(exit code, what was said) of a file, with an exception for its function `one` of so many lines."""

    def check(text: str, allowed: int | None = None) -> tuple[int, str]:
        (tmp_path / "daemon/a.py").write_text(text)
        exception = f'[[exception]]\nname = "daemon/a.py:one"\nlines = {allowed}\nreason = "r"\n'
        (tmp_path / "tools/sizes.toml").write_text(exception if allowed else "")
        return sizes.main(), capsys.readouterr().out

    return check


def test_what_is_short_passes(checked: Callable[..., tuple[int, str]]) -> None:
    """No problem, no exception."""
    assert checked(SHORT) == (0, "sizes: 0 problem(s), 0 exception(s)\n")


@pytest.mark.parametrize("text", [LONG, LONG + SHORT, SHORT + LONG])
def test_a_long_function_is_told(checked: Callable[..., tuple[int, str]], text: str) -> None:
    """Also beside a short one of the same name."""
    code, said = checked(text)
    assert code == 1
    assert "daemon/a.py:one: 60 lines, 50 allowed" in said


def test_a_long_file_is_told(checked: Callable[..., tuple[int, str]]) -> None:
    """401 lines are one too many."""
    assert checked("x = 1\n" * 400)[0] == 0
    assert checked("x = 1\n" * 401)[0] == 1


@pytest.mark.parametrize(("allowed", "code"), [(59, 1), (60, 0), (61, 1)])
def test_an_exception_is_of_the_present_size(
    checked: Callable[..., tuple[int, str]], allowed: int, code: int
) -> None:
    """What has grown is told, and so is what has shrunk, so that it cannot grow back."""
    assert checked(LONG, allowed)[0] == code


def test_an_exception_that_nobody_needs_is_told(checked: Callable[..., tuple[int, str]]) -> None:
    """It is to be removed."""
    code, said = checked(SHORT, 60)
    assert code == 1
    assert "no longer needed" in said
