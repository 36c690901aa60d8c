"""How a proxy's process deals with its memory."""

import platform
import subprocess
import sys

import pytest

ROUNDS = 200
# Bodies come and go: 64 of 32 KB at once, more than the C library leaves at the end of the heap by itself.
SCRIPT = f"""
import gc, resource
from pointsman.proxy import memory
memory.settle()
print(gc.get_freeze_count())
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def come_and_go():
    bodies = [bytes(32768) for _ in range(64)]
come_and_go()
before = faults()
for _ in range({ROUNDS}):
    come_and_go()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
def test_bodies_that_come_and_go_take_the_same_memory_again() -> None:
    """It is not given back to the system each time, and what the process loaded is never searched for garbage."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    frozen, faults = map(int, done.stdout.split())
    assert frozen > 1_000
    assert faults < ROUNDS
