"""What decoding a stranger's JSON may raise: a provider's, a caller's, or what somebody wrote into the store.

msgspec tells of broken JSON by its own error, but of text that is no UTF-8 and of nesting without end by Python's.
"""

from typing import Final

from msgspec import MsgspecError

UNREADABLE: Final = (MsgspecError, UnicodeDecodeError, RecursionError)
