# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Who may ask: the host that is asked for, the page that asks, and the token that it carries.

A page of another site can send requests to this machine, and DNS rebinding lets it read the answers. So the name in
`Host` has to be one of ours, `Origin` has to be exactly our page, and requests carry a token that only the person who
started the server has seen. There are no cookies, which a browser would add by itself.
"""

import json
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .settings import StudioSettings


TOKEN_HEADER = b"x-mcdiff-token"
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
SAFE_METHODS = ("GET", "HEAD")


def new_token() -> str:
    """A token for one start of a server."""
    return secrets.token_urlsafe(24)


def token_fits(settings: StudioSettings, token: str | None) -> bool:
    """Whether a client knows the token, or none is needed."""
    if settings.token is None:
        return True
    return token is not None and secrets.compare_digest(settings.token.encode(), token.encode())


class Guard:
    """
    ASGI middleware that answers foreign requests itself, and adds the security headers to all responses.

    Args:
        app (`ASGIApp`): What is protected.
        settings (`StudioSettings`): Names the hosts, the port and the token.
    """

    def __init__(self, app: ASGIApp, settings: StudioSettings):
        self.app, self.settings = app, settings
        ports = {f":{settings.port}"} | ({""} if settings.shared or settings.port == 80 else set())
        self.hosts = {f"{host}{port}" for host in OWN_HOSTS for port in ports}
        # a proxy in front may serve our names at any port of its own
        self.proxied = {host.lower() for host in settings.hosts}
        ancestors = "'self' https://huggingface.co" if settings.is_space else "'self'"
        policy = (
            "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
        )
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]
        if not settings.is_space:
            self.headers.append((b"cross-origin-opener-policy", b"same-origin"))
            self.headers.append((b"x-frame-options", b"SAMEORIGIN"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        why, status = self._objection(scope, _values(headers, b"host"), _values(headers, b"origin"))
        if not why and scope["type"] == "http" and not self._carries_token(scope):
            why, status = "The token is missing or wrong: open the address that `mcdiff studio` printed.", 401
        if why and scope["type"] == "websocket":
            await receive()  # the handshake
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
        elif why:
            await self._refuse(self._with_headers(send), status, why)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, self._with_headers(send))

    def _objection(self, scope: Scope, hosts: list[str], origins: list[str]) -> tuple[str, int]:
        """Why a request is not for us or not from our page, and the status that says so; empty if it is."""
        if len(hosts) != 1 or not self._is_own(hosts[0].lower()):
            return "This server does not go by that name: open the address that `mcdiff studio` printed.", 403
        # browsers name the origin of every request that is more than a reading one
        if not origins and scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return "", 0
        allowed = [f"http://{hosts[0].lower()}"]
        if self.settings.shared:
            allowed.append(f"https://{hosts[0].lower()}")
        if len(origins) != 1 or origins[0].lower() not in allowed:
            return "The request comes from a page of another site, which is not allowed.", 403
        return "", 0

    def _is_own(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        return host in self.hosts or host in self.proxied or (name in self.proxied and port.isdecimal())

    def _carries_token(self, scope: Scope) -> bool:
        path = scope["path"]
        if not path.startswith("/api/") or path == "/api/health":
            return True
        tokens = _values(scope["headers"], TOKEN_HEADER)
        return token_fits(self.settings, tokens[0] if len(tokens) == 1 else None)

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self.headers]}
            await send(message)

        return send_with_headers

    async def _refuse(self, send: Send, status: int, why: str) -> None:
        body = json.dumps({"why": why, "code": "token" if status == 401 else "foreign"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


class Rate:
    """
    A token bucket: so many messages a second, and twice as many at once.

    Args:
        per_second (`int`): Messages a second.
        clock (`Callable[[], float]`): Seconds.
    """

    def __init__(self, per_second: int, clock: Any = time.monotonic):
        self.per_second, self.clock = per_second, clock
        self._left, self._last = 2.0 * per_second, clock()

    def allows(self) -> bool:
        """Whether one more message is allowed now; it is counted."""
        now = self.clock()
        self._left = min(2.0 * self.per_second, self._left + (now - self._last) * self.per_second)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
