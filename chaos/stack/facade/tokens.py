"""Bearer tokens that need no memory: a restarted catalog knows the tokens it gave out before."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

LIFETIME_S = 3600


class Tokens:
    """Makes and checks tokens: the second at which one ends, and a signature over it.

    Args:
        secret: Signs them.
        now: Unix seconds.
    """

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._now = now

    def issue(self) -> str:
        """Make a token that is valid for :data:`LIFETIME_S`."""
        ends = str(int(self._now()) + LIFETIME_S)
        return f"{ends}.{self._sign(ends)}"

    def valid(self, token: str) -> bool:
        """Tell whether a token is ours and has not ended."""
        ends, _, signature = token.partition(".")
        if not hmac.compare_digest(self._sign(ends).encode(), signature.encode()):
            return False
        return int(ends) > self._now()

    def _sign(self, ends: str) -> str:
        return hmac.new(self._secret, ends.encode(), hashlib.sha256).hexdigest()
