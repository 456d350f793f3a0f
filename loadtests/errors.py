"""
What can go wrong while generating traffic.

TrafficError
  BadTraffic       an argument or a profile is wrong; nothing was sent (exit 254)
  GeneratorFailed  the generator cannot record or go on; the run proves nothing further (exit 255)
"""

from __future__ import annotations


class TrafficError(Exception):
    """Base of everything this package raises. `str()` is one sentence for a person.

    Attributes:
        exit_code: What a process that ends for this reason exits with.
    """

    exit_code = 255


class BadTraffic(TrafficError):
    """An argument or a profile is wrong; the sentence says which, and what to do."""

    exit_code = 254


class GeneratorFailed(TrafficError):
    """The generator broke: a record could not be written, or its own code failed."""
