"""Makes the package `bench` importable: by itself this folder would pass for it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
