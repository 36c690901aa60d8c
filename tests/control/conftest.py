"""The control tests' fixtures; the helpers behind them are in control_daemons.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from control_daemons import commands, daemons, settings

__all__ = ["commands", "daemons", "settings"]
