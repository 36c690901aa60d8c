"""Every file in config/bad has exactly one mistake, found at its line and key, with a cure."""

import re
from pathlib import Path

import pytest

from pointsman.config.errors import ConfigError
from pointsman.config.sources import load

FILES = sorted((Path(__file__).parents[2] / "config/bad").glob("*.yaml"))
EXPECT = re.compile(r"# expect: (\d+) (.+?): (.+)")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_is_found_at_its_line_and_key(path: Path) -> None:
    """One mistake gives one problem, where the file's first line says, and a cure."""
    expected = EXPECT.fullmatch(path.read_text().splitlines()[0])
    assert expected, "the first line must say what is expected"
    line, key, fragment = expected.groups()
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.problems) == 1, str(caught.value)
    problem = caught.value.problems[0]
    assert (problem.line or 0, problem.key or "-") == (int(line), key)
    assert fragment in problem.text
    assert len(problem.cure) > 5


def test_there_are_many_bad_files() -> None:
    """The folder is not lost from a checkout."""
    assert len(FILES) >= 60
