"""The transport ``https``: what the sender takes for a producer, and what posts batches to the gateway instead of Kafka.

One request at a time, several batches in each, in the order in which they were given; while one is under way, the next
ones gather. A request that fails fails all that wait: the sender sends them again, under the same numbers.
"""

from __future__ import annotations

import gzip
import logging
import threading
from collections import deque
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent.control.client import Answer, Client, GatewayError
from ezadmin_agent.control.me import Me
from ezadmin_wire import upload

log = logging.getLogger(__name__)

BODY_BYTES = 1 << 20
"""Bytes of batches in one request, before gzip; a batch that is larger goes alone."""
TIMEOUT = 45.0
TOO_LARGE = "too_large"
_BARE = 1024  # about what a batch's headers take


class TooLargeError(Exception):
    """A batch that Kafka would never take for its size."""


class Future:
    """What becomes of a batch; as much of kafka-python's as the sender uses."""

    def __init__(self) -> None:
        self.is_done = False
        self.exception: Optional[BaseException] = None
        self._callback: Callable[..., object] = lambda: None

    def failed(self) -> bool:
        """Whether it ended, and not well."""
        return self.is_done and self.exception is not None

    def add_both(self, callback: Callable[..., object]) -> None:
        """Have ``callback`` called at its end."""
        self._callback = callback
        if self.is_done:
            callback()

    def end(self, error: Optional[BaseException]) -> None:
        """It ended; well without an ``error``."""
        self.exception = error
        self.is_done = True
        self._callback()


class _Batch(NamedTuple):
    headers: list[tuple[str, bytes]]
    value: bytes
    future: Future


class GatewayRoute:
    """The way through the gateway at ``url``, as :class:`ezadmin_agent.sender.Route`."""

    takes = "the gateway"
    errors: tuple[type[BaseException], ...] = ()
    too_large: tuple[type[BaseException], ...] = (TooLargeError,)

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        """The address."""
        return self._url

    def options(self) -> dict[str, Any]:
        """None: the producer is made with what it needs."""
        return {}


class GatewayProducer:
    """Posts batches as the host ``me`` through a client of its own, in a thread of its own, until :meth:`close`."""

    def __init__(self, client: Client, me: Me) -> None:
        self._client = client
        self._me = me
        self._queue: deque[_Batch] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> Future:
        """Have a batch posted; topic and key stand among its headers."""
        batch = _Batch(headers, value, Future())
        with self._ready:
            self._queue.append(batch)
            self._ready.notify()
        return batch.future

    def close(self, timeout: float) -> None:
        """End; what is not posted within ``timeout`` seconds fails."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout)
        self._client.interrupt()
        self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._closing:
                    self._ready.wait()
                if not self._queue:
                    break
                batches = self._take()
            try:
                self._post(batches)
            except (GatewayError, TooLargeError) as error:
                self._fail(batches, error)
            except Exception as error:
                log.exception("an upload failed unexpectedly")
                self._fail(batches, GatewayError(f"{type(error).__name__}: {error}"))
        self._client.close()

    def _take(self) -> list[_Batch]:
        batches = [self._queue.popleft()]
        size = len(batches[0].value) + _BARE
        while self._queue and len(batches) < upload.MAX_BATCHES:
            size += len(self._queue[0].value) + _BARE
            if size > BODY_BYTES:
                break
            batches.append(self._queue.popleft())
        return batches

    def _post(self, batches: list[_Batch]) -> None:
        answer = post(self._client, self._me, [(batch.headers, batch.value) for batch in batches])
        if answer.status != 200:
            error = answer.error()
            if answer.status == 413 and len(batches) == 1:
                raise TooLargeError(str(error))
            raise error
        for batch, found in zip(batches, results(answer, len(batches))):
            batch.future.end(found)

    def _fail(self, batches: list[_Batch], error: BaseException) -> None:
        with self._ready:
            waiting = list(self._queue)
            self._queue.clear()
        for batch in (*batches, *waiting):
            if not batch.future.is_done:
                batch.future.end(error)


def post(client: Client, me: Me, batches: list[tuple[list[tuple[str, bytes]], bytes]]) -> Answer:
    """Post batches of (headers, value). Raises GatewayError if there is no answer."""
    body = gzip.compress(upload.encode(batches), 1)
    headers = {"Content-Type": upload.CONTENT_TYPE, "Content-Encoding": "gzip"}
    return client.signed(me.key, me.host, "POST", "/batches", body=body, headers=headers, timeout=TIMEOUT)


def results(answer: Answer, count: int) -> list[Optional[BaseException]]:
    """What became of each batch; None: it is in Kafka. Raises GatewayError for an answer that does not say."""
    found = answer.json().get("results")
    if not isinstance(found, list) or len(found) != count or not all(isinstance(one, dict) for one in found):
        raise GatewayError("the gateway's answer cannot be read", "are both of the same version?")
    return [_result(one) for one in found]


def _result(one: dict[str, Any]) -> Optional[BaseException]:
    if one.get("ok") is True:
        return None
    reason, text = str(one.get("error", "")), str(one.get("message", ""))
    if reason == TOO_LARGE:
        return TooLargeError(text)
    return GatewayError(f"{text or 'refused'} ({reason or 'no reason'})", status=200, reason=reason)
