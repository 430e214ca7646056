"""What a gateway does for browsers that look at graphs: rights that change, browsers that do not read, what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ezadmin_cmdb.gateway import graphs
from ezadmin_cmdb.gateway.graphs import Graphs, Series, points_of
from ezadmin_cmdb.gateway.samples import Kept

HOSTS = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2)]
CPU = {"dataset": "system.host", "field": "system.cpu.total.norm.pct"}


def document(value: Any, **more: Any) -> dict[str, Any]:
    return {"@timestamp": "2026-11-25T12:00:00.000Z", "event.dataset": "system.host", CPU["field"]: value, **more}


class Socket:
    """A browser that asks once; one that is ``stuck`` never reads."""

    def __init__(self, stuck: bool = False) -> None:
        self.heard: list[dict[str, Any]] = []
        self.code: int | None = None
        self.stuck = stuck
        self._asked = False

    async def accept(self) -> None:
        """Nothing to do."""

    async def receive_text(self) -> str:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return json.dumps({"hosts": HOSTS, "series": [CPU]})

    async def send_text(self, text: str) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.heard.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.code = code


class Watched(Graphs):
    """Graphs without a database, Kafka and cookies: ``allowed`` says who may see what."""

    def __init__(self) -> None:
        self.allowed: set[str] | None = set(HOSTS)
        self.count = 0
        self._channels = {}
        self._browsers: Any = SimpleNamespace(token=lambda socket: "token")
        self.samples: Any = SimpleNamespace(watch=lambda hosts: None, replay=lambda hosts, since, to: None)

    async def _allowed(self, token: str, host_ids: Sequence[str]) -> set[str] | None:
        return None if self.allowed is None else self.allowed & set(host_ids)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_what_a_user_may_see_no_more_ends_while_he_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "RIGHTS_SECONDS", 0.02)

    async def watch() -> None:
        watched, socket = Watched(), Socket()
        serving = asyncio.create_task(watched.serve(socket))  # type: ignore[arg-type]
        await until(lambda: socket.heard == [{"refused": []}])
        watched.allowed = {HOSTS[0]}
        await until(lambda: socket.heard[-1] == {"refused": [HOSTS[1]]})
        assert [channel.hosts for channel in watched._channels.values()] == [frozenset({HOSTS[0]})]
        watched.allowed = None
        await until(serving.done)
        assert socket.code == graphs.NOT_SIGNED_IN
        assert not watched._channels
        assert watched.count == 0

    asyncio.run(watch())


def test_who_does_not_read_is_hung_up_on_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "FRAMES_WAITING", 5)

    async def watch() -> None:
        watched, stuck, good = Watched(), Socket(stuck=True), Socket()
        tasks = [asyncio.create_task(watched.serve(one)) for one in (stuck, good)]  # type: ignore[arg-type]
        await until(lambda: sum(len(one.viewers) for one in watched._channels.values()) == 2)
        (channel,) = watched._channels.values()
        for number in range(20):
            for viewer in channel.viewers:
                viewer.send(json.dumps({"points": number}))
            await asyncio.sleep(0.001)
        await until(tasks[0].done)
        assert stuck.code == graphs.TOO_SLOW
        await until(lambda: good.heard[-1] == {"points": 19})
        assert len(channel.viewers) == 1
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not watched._channels

    asyncio.run(watch())


def test_what_is_kept_is_bounded_in_bytes_and_time() -> None:
    kept = Kept(seconds=10, most=100)
    for at in range(30):
        kept.add((float(at), b"a" if at % 2 else b"b", [], b"x" * 30))
    assert kept.bytes == 90
    assert [one[0] for one in kept.of("a")] == [27.0, 29.0]
    kept.add((60.0, b"b", [], b"x"))
    assert kept.bytes == 1
    assert kept.of("a") == []


def test_points_are_numbers_of_the_items_that_match() -> None:
    cpu, disk = (
        Series("system.host", CPU["field"], "*"),
        Series("system.filesystem", "system.filesystem.used.pct", "/v*"),
    )
    other = {"@timestamp": "2026-11-25T12:00:00.000Z", "event.dataset": "system.filesystem", disk.field: 0.5}
    documents = [document(0.25), *(document(one) for one in (True, "1", None, float("nan"), float("inf")))]
    documents += [{**other, "system.filesystem.mount_point": one} for one in ("/var", "/home")]
    at = 1_795_608_000_000
    assert list(points_of(HOSTS[0], documents, (cpu, disk))) == [
        (HOSTS[0], 0, "", at, 0.25),
        (HOSTS[0], 1, "/var", at, 0.5),
    ]
