"""How a proxy's process deals with its memory, said once it serves."""

import ctypes
import gc
from typing import Final

# So many objects are made before the youngest are looked through.
_GARBAGE: Final = 20_000
# glibc's names in <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# So much may lie free at the end of the heap, and blocks from this size on are mapped for themselves. By default the
# heap's end is given back and fetched anew for every few bodies of 32 KB, which costs as much as judging their answers.
_FREE_BYTES: Final = 8 << 20
_MAPPED_BYTES: Final = 1 << 20


def settle() -> None:
    """Keep what is used again and again, and look for garbage seldom."""
    _spare_the_collector()
    _keep_the_heap()


def _spare_the_collector() -> None:
    """Look for circles of garbage less often, and not among what lives as long as the process: a request makes none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 20)


def _keep_the_heap() -> None:
    """Where the C library is glibc; others have their own ways."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
