"""The framing that S3 clients put around a body whose chunks they sign: `<hex size>[;chunk-signature=...]CRLF data CRLF`."""

from __future__ import annotations

HEADER_BYTES = 1024
"""Longest chunk header; a signed one has 85 bytes and a few digits."""


class AwsChunkedDecoder:
    """Takes the framing off a stream; trailers after the last chunk are dropped."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self._first = True
        self._ended = False

    def feed(self, content: bytes) -> bytes:
        """Return the data in the next bytes of the stream, possibly none yet.

        Raises:
            ValueError: the stream is not framed.
        """
        self._buffer += content
        found = bytearray()
        while not self._ended and self._buffer:
            if self._left == 0 and not self._read_header():
                break
            found += self._buffer[: self._left]
            taken = min(self._left, len(self._buffer))
            del self._buffer[:taken]
            self._left -= taken
        return bytes(found)

    def _read_header(self) -> bool:
        start = 0 if self._first else 2  # a line end closes the chunk before
        end = self._buffer.find(b"\r\n", start)
        if end < 0:
            if len(self._buffer) > HEADER_BYTES:
                raise ValueError("a chunk header is too long")
            return False
        self._left = int(self._buffer[start:end].partition(b";")[0], 16)
        self._first = False
        self._ended = self._left == 0
        del self._buffer[: end + 2]
        return True
