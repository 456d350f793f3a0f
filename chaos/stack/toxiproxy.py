"""Toxiproxy: the real server, driven with toxiproxy-python, which knows neither deadlines nor a second server.

Removing a toxic under traffic can hang the server's control API for good (upstream issues 210, 412, 558). So every call
has a deadline, every change is read back, and removal escalates: take the toxic away, else make its proxy anew, else
kill the server and start another with the same proxies and the toxics that should still be there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
import toxiproxy
import toxiproxy.api
import toxiproxy.exceptions
import toxiproxy.proxy
import toxiproxy.server

from chaos.errors import BadScenario, ControlHung, HealFailed
from chaos.warden_client import Undo, Warden

Stream = Literal["upstream", "downstream"]
CALL_DEADLINE_S = 1.0
"""Every call takes milliseconds when the server is well, on a loaded machine too."""

_LIBRARY = threading.Lock()


@dataclass(frozen=True)
class Route:
    """One proxy: where it listens and where it leads, as ``host:port``."""

    name: str
    listen: str
    upstream: str


@dataclass(frozen=True)
class Toxic:
    """One toxic on one proxy. ``toxicity`` is the share of *connections* it is drawn for, not of requests."""

    proxy: str
    name: str
    type: str
    stream: Stream = "downstream"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    toxicity: float = 1.0


class _Consumer:
    """Stands in for the library's ``APIConsumer``: one server, a deadline on each call, no proxy of the environment."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self._call("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        return self._call("POST", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> requests.Response:
        return self._call("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> requests.Response:
        return self._call("DELETE", path, **kwargs)

    def _call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, self._url + path, timeout=self._deadline_s, **kwargs)
        if answer.status_code >= 500:
            raise requests.HTTPError(f"status {answer.status_code}", response=answer)
        checked: requests.Response = toxiproxy.api.validate_response(answer)
        return checked


class Api:
    """The control API of one server; every call raises ControlHung within ``deadline_s`` when it is not answered."""

    def __init__(self, url: str, deadline_s: float = CALL_DEADLINE_S) -> None:
        self.url = url
        self._consumer = _Consumer(url, deadline_s)
        self._deadline_s = deadline_s

    def answers(self) -> bool:
        """Tell whether the API is up."""
        try:
            self.toxics_of_all()
        except ControlHung:
            return False
        return True

    def create(self, route: Route) -> None:
        """Make a proxy, in place of one of the same name."""
        with self._calling():
            server = toxiproxy.Toxiproxy()
            if (old := server.get_proxy(route.name)) is not None:
                old.destroy()
            server.create(upstream=route.upstream, name=route.name, listen=route.listen, enabled=True)

    def lead_to(self, proxy: str, upstream: str) -> None:
        """Let a proxy lead elsewhere; its connections are cut, its toxics stay."""
        with self._calling():
            answer = self._consumer.patch(f"/proxies/{proxy}", json={"upstream": upstream})
        if answer.json().get("upstream") != upstream:
            raise ControlHung(f"toxiproxy did not point {proxy} at {upstream}")

    def enable(self, proxy: str, enabled: bool) -> None:
        """Let a proxy listen, or close its port and cut its connections."""
        with self._calling():
            found = toxiproxy.Toxiproxy().get_proxy(proxy)
            (found.enable if enabled else found.disable)()

    def enabled(self) -> dict[str, bool]:
        """Tell for each proxy whether it listens."""
        with self._calling():
            return {name: bool(proxy.enabled) for name, proxy in toxiproxy.Toxiproxy().proxies().items()}

    def add(self, toxic: Toxic) -> None:
        """Add a toxic."""
        with self._calling():
            self._proxy(toxic.proxy).add_toxic(
                type=toxic.type,
                name=toxic.name,
                stream=toxic.stream,
                toxicity=toxic.toxicity,
                attributes=dict(toxic.attributes),
            )

    def remove(self, proxy: str, name: str) -> None:
        """Remove a toxic; one that is not there is fine."""
        with self._calling():
            try:
                self._proxy(proxy).destroy_toxic(name)
            except toxiproxy.exceptions.NotFound:
                return

    def names(self, proxy: str) -> set[str]:
        """Name the toxics that are on a proxy."""
        with self._calling():
            return set(self._proxy(proxy).toxics())

    def toxics_of_all(self) -> dict[str, set[str]]:
        """Name the toxics on every proxy."""
        with self._calling():
            proxies = toxiproxy.Toxiproxy().proxies()
            return {name: set(proxy.toxics()) for name, proxy in proxies.items()}

    def _proxy(self, name: str) -> toxiproxy.Proxy:
        return toxiproxy.Proxy(name=name, upstream="", enabled=True, listen="")

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Point the library at this server, and translate what may come back."""
        with _LIBRARY:
            toxiproxy.proxy.APIConsumer = toxiproxy.server.APIConsumer = self._consumer
            try:
                yield
            except (toxiproxy.exceptions.InvalidToxic, toxiproxy.exceptions.NotFound) as error:
                raise BadScenario(f"toxiproxy refuses: {_text(error)}") from error
            except toxiproxy.exceptions.ProxyExists as error:
                raise BadScenario(f"toxiproxy already has that name: {_text(error)}") from error
            except (requests.RequestException, ValueError) as error:
                raise ControlHung(
                    f"toxiproxy at {self.url} did not answer within {self._deadline_s:g} s ({type(error).__name__})"
                ) from error
            finally:
                toxiproxy.proxy.APIConsumer = toxiproxy.server.APIConsumer = toxiproxy.api.APIConsumer


def _text(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


class Toxics:
    """What is wrong on purpose on the proxies of one stack; each change is journaled first and verified after.

    ``restart`` gives a fresh server process on the same API address, or None for a stack somebody else started.
    ``note`` is told about every escalation.
    """

    def __init__(
        self,
        api: Api,
        warden: Warden,
        routes: Mapping[str, Route],
        *,
        restart: Callable[[], None] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._warden = warden
        self._routes = dict(routes)
        self._restart = restart
        self._note = note
        self._lock = threading.RLock()
        self._active: dict[tuple[str, str], tuple[Toxic, Undo]] = {}
        self._down: dict[str, Undo] = {}

    @property
    def active(self) -> list[Toxic]:
        """The toxics that are on now, oldest first."""
        with self._lock:
            return [toxic for toxic, _ in self._active.values()]

    def create_proxies(self) -> None:
        """Make every proxy, without toxics."""
        with self._lock:
            for route in self._routes.values():
                self._api.create(route)

    def lead_to(self, proxy: str, upstream: str) -> None:
        """Let a proxy lead to ``host:port`` from now on."""
        with self._lock:
            route = self._route(proxy)
            self._routes[proxy] = Route(route.name, route.listen, upstream)
            self._with_escalation(proxy, lambda: self._api.lead_to(proxy, upstream))

    def add(
        self,
        proxy: str,
        type: str,
        attributes: Mapping[str, Any] | None = None,
        stream: Stream = "downstream",
        name: str = "",
        toxicity: float = 1.0,
    ) -> str:
        """Add a toxic and see that it is there; returns its name (default: type and stream).

        Raises BadScenario when the server refuses it or the name is in use, ControlHung when it cannot be added.
        """
        self._route(proxy)
        toxic = Toxic(proxy, name or f"{type}-{stream}", type, stream, dict(attributes or {}), toxicity)
        key = (toxic.proxy, toxic.name)
        with self._lock:
            if key in self._active:
                raise BadScenario(f"a toxic named {toxic.name} is already on {proxy}; give each a name of its own")
            promise = self._warden.undo(self._removal(toxic))
            try:
                self._with_escalation(proxy, lambda: self._put(toxic))
            except BadScenario:
                promise.done()  # the server said no, so nothing was injected
                raise
            self._active[key] = (toxic, promise)
        return toxic.name

    def remove(self, proxy: str, name: str) -> None:
        """Remove a toxic and see that it is gone; one that is not on is fine. Raises HealFailed when nothing helped."""
        with self._lock:
            if (proxy, name) not in self._active:
                return
            toxic, promise = self._active.pop((proxy, name))
            try:
                self._with_escalation(proxy, lambda: self._take(proxy, name))
            except ControlHung as error:
                self._active[proxy, name] = (toxic, promise)
                raise HealFailed(f"toxic {name} could not be removed from {proxy}: {error}") from error
            promise.done()

    def disable(self, proxy: str) -> None:
        """Close a proxy's port and cut its connections, until :meth:`enable`."""
        self._route(proxy)
        with self._lock:
            if proxy in self._down:
                return
            promise = self._warden.undo(
                {
                    "kind": "http",
                    "method": "PATCH",
                    "url": f"{self._api.url}/proxies/{proxy}",
                    "headers": {"Content-Type": "application/json"},
                    "body": '{"enabled": true}',
                    "gone_ok": True,
                }
            )
            self._with_escalation(proxy, lambda: self._api.enable(proxy, False))
            self._down[proxy] = promise

    def enable(self, proxy: str) -> None:
        """Let a proxy listen again, and see that it does."""
        with self._lock:
            promise = self._down.pop(proxy, None)
            if promise is not None:
                self._with_escalation(proxy, lambda: self._api.enable(proxy, True))
                promise.done()

    def remove_all(self) -> None:
        """Remove every toxic, enable every proxy, and see that the server has none left."""
        with self._lock:
            for proxy, name in list(self._active):
                self.remove(proxy, name)
            for proxy in list(self._down):
                self.enable(proxy)
            for proxy in self._routes:
                self._with_escalation(proxy, lambda each=proxy: self._clear(each))  # type: ignore[misc]

    def restore(self) -> None:
        """Put proxies and toxics on a fresh server."""
        with self._lock:
            self.create_proxies()
            for toxic, _ in self._active.values():
                self._api.add(toxic)
            for proxy in self._down:
                self._api.enable(proxy, False)

    # -- escalation

    def _with_escalation(self, proxy: str, change: Callable[[], None]) -> None:
        """Make a change; when the API hangs, on a proxy made anew; when that hangs too, on a new server."""
        try:
            change()
            return
        except ControlHung as error:
            self._note(f"{error}; making proxy {proxy} anew")
        try:
            self._recreate(proxy)
            change()
            return
        except ControlHung as error:
            if self._restart is None:
                raise ControlHung(f"{error}; this stack was started by `icequake up`: start that again") from error
            self._note(f"{error}; killing toxiproxy and starting another")
        self._restart()
        self.restore()
        change()

    def _recreate(self, proxy: str) -> None:
        self._api.create(self._routes[proxy])
        for toxic, _ in self._active.values():
            if toxic.proxy == proxy:
                self._api.add(toxic)
        if proxy in self._down:
            self._api.enable(proxy, False)

    def _put(self, toxic: Toxic) -> None:
        if toxic.name not in self._api.names(toxic.proxy):  # a hung call may have been carried out
            self._api.add(toxic)
        if toxic.name not in self._api.names(toxic.proxy):
            raise ControlHung(f"toxiproxy accepted the toxic {toxic.name} and does not have it")

    def _take(self, proxy: str, name: str) -> None:
        self._api.remove(proxy, name)
        if name in self._api.names(proxy):
            raise ControlHung(f"toxiproxy said that toxic {name} is removed and still has it")

    def _clear(self, proxy: str) -> None:
        for name in self._api.names(proxy):
            self._take(proxy, name)

    def _route(self, proxy: str) -> Route:
        if proxy not in self._routes:
            raise BadScenario(f"there is no proxy {proxy!r}; the stack has {', '.join(self._routes)}")
        return self._routes[proxy]

    def _removal(self, toxic: Toxic) -> dict[str, Any]:
        url = f"{self._api.url}/proxies/{toxic.proxy}/toxics/{toxic.name}"
        return {"kind": "http", "method": "DELETE", "url": url, "ok": [200, 204, 404], "gone_ok": True}
