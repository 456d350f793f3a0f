"""Objects in memory, as pyiceberg's files: what is stored is made here first, so that it is known before it is sent."""

from __future__ import annotations

import io
from typing import Any, NoReturn

from pyiceberg.io import FileIO, InputFile, OutputFile


class MemoryIO(FileIO):
    """One object in memory, so that a file's statistics are read before it is sent, not after."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__()
        self._file = MemoryFile(location, data)

    def new_input(self, location: str) -> InputFile:  # noqa: ARG002
        """Return the object, whatever it is asked by."""
        return self._file

    def new_output(self, location: str) -> NoReturn:
        """Refuse: it is only read."""
        raise NotImplementedError(location)

    def delete(self, location: object) -> NoReturn:
        """Refuse: it is only read."""
        raise NotImplementedError(location)


class MemoryFile(InputFile):
    """An object in memory, to be read."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__(location)
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        """It does."""
        return True

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002
        """Return a stream of it."""
        return io.BytesIO(self._data)


class MemoryOutput(OutputFile):
    """An object that is made in memory first, so that it can be stored again as it was.

    Attributes:
        data: Empty until its writer has closed it.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.data = b""

    def __len__(self) -> int:
        return len(self.data)

    def exists(self) -> bool:
        """Tell whether it was written."""
        return bool(self.data)

    def to_input_file(self) -> InputFile:
        """Return what was written."""
        return MemoryFile(self.location, self.data)

    def create(self, overwrite: bool = False) -> Any:  # noqa: ARG002
        """Return a stream; what is written to it is the object once it is closed."""
        return _Kept(self)


class _Kept(io.BytesIO):
    """The stream of a ``MemoryOutput``."""

    def __init__(self, output: MemoryOutput) -> None:
        super().__init__()
        self._output = output

    def close(self) -> None:
        if not self.closed:
            self._output.data = self.getvalue()
        super().close()
