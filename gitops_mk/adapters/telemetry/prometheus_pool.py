"""HTTP connections of which every single read ends by one time of the clock.

A socket's own time limit is for one read: a server that sends a byte now and then never meets it, neither in its headers nor in
the sizes of its chunks.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

_LEAST_S: Final = 0.001


class _Timed(io.RawIOBase):
    """What a socket gives, while there is time left: `left` is seconds, asked before each read. Raises TimeoutError."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, left: Callable[[], float]) -> None:
        self._sock = sock
        self._raw = raw
        self._left = left
        self._silent_s = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = self._checked()
        self._sock.settimeout(max(_LEAST_S, left if self._silent_s is None else min(left, self._silent_s)))
        count = self._raw.readinto(buffer)
        self._checked()
        return count

    def _checked(self) -> float:
        left = self._left()
        if left <= 0:
            raise TimeoutError("the time for this answer is over")
        return left

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def make_pool(left: Callable[[], float], *, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Connections, one at a time and none asked again. `left` says how many seconds the answer that is read has left."""

    class Response(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            self.fp: Any = io.BufferedReader(_Timed(sock, self.fp.detach(), left))

    class Plain(HTTPConnection):
        response_class = Response

    class Encrypted(HTTPSConnection):
        response_class = Response

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Encrypted

    manager = urllib3.PoolManager(maxsize=1, retries=False, ssl_context=tls)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return manager
