"""Forward TCP ports from one address to another, as a tunnel between machines does.

    python -m tests.forward FROM TO PORT...

Listens at FROM on each PORT and connects to the same port at TO, until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _forward(to: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(to, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _serve(listen: str, to: str, ports: list[int]) -> None:
    servers = [await asyncio.start_server(lambda r, w, p=port: _forward(to, p, r, w), listen, port) for port in ports]  # type: ignore[misc]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))
