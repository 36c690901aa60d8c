"""Every scenario script, replayed, gives exactly the transcript that stands in it.

After a wanted change of the policy run with POINTSMAN_WRITE_SCENARIOS=1, and read the difference.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from runner import play  # noqa: E402  (the folder is put on the path just above)


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    """The core does what the script's transcript says, to the letter."""
    script = path.read_text()
    transcript = play(script)
    if os.environ.get("POINTSMAN_WRITE_SCENARIOS"):
        path.write_text(transcript)

    assert transcript == script
