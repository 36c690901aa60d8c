"""The control tests' fixtures; the helpers behind them stand in control_daemons.py and control_processes.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from control_daemons import daemons, settings
from control_processes import commands, config

__all__ = ["commands", "config", "daemons", "settings"]
