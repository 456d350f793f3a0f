"""
What can go wrong in the gateway.

GatewayError           base; `str()` is one sentence for a person, `exit_code` what the process ends with
  BadConfig            the configuration file is wrong (254)
  BadRule              a rule sent to the control interface is wrong (answered with 400)
  PortTaken            a port to listen on is in use (255)
  ClientGone           the client closed its connection before its answer was sent
  UpstreamLost         the upstream could not be reached, or broke off before its answer was complete
  TooLargeToHold       a body is larger than what the gateway keeps in memory for one request
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of everything this package raises."""

    exit_code = 255


class BadConfig(GatewayError):
    """The configuration cannot be used; the sentence names file, field and remedy."""

    exit_code = 254


class BadRule(GatewayError):
    """A rule is wrong; the sentence says which field and what it may be."""


class PortTaken(GatewayError):
    """A listener could not bind its address."""

    def __init__(self, name: str, address: str, reason: str) -> None:
        super().__init__(
            f"The gateway cannot listen on {address} for {name!r}: {reason}. Free the port or choose another."
        )


class ClientGone(GatewayError):
    """Nobody is left to answer."""

    def __init__(self) -> None:
        super().__init__("The client closed its connection.")


class UpstreamLost(GatewayError):
    """The upstream refused the connection or closed it in the middle of an exchange."""


class TooLargeToHold(GatewayError):
    """Holding this body would break the bound on memory; nothing was lost, it can still be streamed."""

    def __init__(self) -> None:
        super().__init__("The body is larger than the gateway holds in memory.")
