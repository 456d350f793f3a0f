"""What a page of ours carries inside of itself: packed scripts and data, allowed by their hashes."""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path


def asset(name: str) -> str:
    """Return a style sheet or script of this package."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def packed(text: str) -> str:
    """Compress for embedding: base64 of gzip without a time stamp. Nothing in it can end a script element."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def script_hash(text: str) -> str:
    """Return what a Content-Security-Policy allows a script by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
