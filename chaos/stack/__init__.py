"""Storage, catalog, gateway and Toxiproxy around a target, on this machine.

with Warden() as warden, start(STACKS["seaweedfs"], warden, directory) as stack:
    stack.point_ingest_at(port)
    stack.toxics.add("r2", "latency", {"latency": 1000}, name="slow")
"""

from chaos.stack.local import Stack, attach, saved_capabilities, start
from chaos.stack.moto import Moto
from chaos.stack.plan import Addresses, BackendFactory
from chaos.stack.ports import Ports
from chaos.stack.remote import Remote
from chaos.stack.seaweedfs import SeaweedFS
from chaos.stack.toxiproxy import Toxic, Toxics

STACKS: dict[str, BackendFactory] = {"seaweedfs": SeaweedFS, "moto": Moto, "remote": Remote}
"""Name on the command line -> what makes its storage and catalog."""

CAPABILITIES: dict[str, dict[str, bool]] = {
    "seaweedfs": SeaweedFS.capabilities,
    "moto": Moto.capabilities,
    "remote": {},
}
"""Name on the command line -> what it can show, as stated; :meth:`Stack.measure` tries it."""

__all__ = [
    "STACKS",
    "CAPABILITIES",
    "Stack",
    "start",
    "attach",
    "saved_capabilities",
    "Addresses",
    "Toxics",
    "Toxic",
    "Ports",
    "BackendFactory",
]
