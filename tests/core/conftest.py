"""A small installation for the tests of the core, and how hard hypothesis looks."""

import os
import pathlib
import sys

from hypothesis import settings

sys.path.insert(0, str(pathlib.Path(__file__).parent))

settings.register_profile("pointsman", deadline=None, max_examples=60, database=None)
settings.register_profile("ci", parent=settings.get_profile("pointsman"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "pointsman")
