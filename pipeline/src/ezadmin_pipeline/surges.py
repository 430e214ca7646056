"""Surges: when a host suddenly sends many times its usual events, what is stored of them, and who is told.

A **key** is (host, dataset, level as received). It has a **budget** of events for every minute *of event time*: the
larger of a floor and a factor times its rate in the last hour that is closed and had events of it. Up to the budget
everything is stored. Of what comes over it within its minute are stored

* the first 20 events of each message template (digits, identifiers, addresses, quoted text masked), and then
* one in 2^k by the hash of the event's id, marked with ``event.sample_rate`` = 2^k, where 2^k is the smallest power
  that is not below events so far / budget. So a sum weighted by ``event.sample_rate`` stays right, and what is stored of
  a minute grows with the logarithm of what came.

Never limited: levels critical and worse, also where a rule raised an event to them; datasets with ``audit``, ``auditd``,
``job`` or ``jobs`` as a word of their name; what an ``exempt`` rule matches. Errors have a budget of at least 100, and at
least one in 64 is stored. What a rule leaves out is no burden and does not count.

Every decision is a function of the state at the last commit and the messages since: event times, ids, counts, the order
in the partition. No clock, no other partition: an attempt that is repeated decides the same. As each minute has its
own budget, a host that sends an outage's worth of spooled events is in no surge: each of its minutes is as full as ever.

**What is usual** is learned per hour of event time. A minute over its budget counts in its hour as if it had brought
2 / factor of the budget, so in an hour of surging the budget doubles at most: a flood does not become usual overnight
by lasting an hour, and a host that works more than it did is stored whole again after some hours. A host that is new has
ten times the floor until the first hour that it was there from the beginning is closed.

**A surge** begins with the first minute over the budget. It ends when the key was not above half its budget for five
minutes of its host's event time, or, if the host says nothing any more, for 15 minutes as the other hosts of the
partition tell the time (the second newest of them: one with a wrong clock does not decide). Beginning and end are alerts.
The surges of a key follow each other in event time, and so no two alerts have one id: what comes late for a minute before
the end of the last one is sampled, but no surge of its own.

Bounds, per partition: :data:`MAX_KEYS` keys, and :data:`MAX_HOST_KEYS` of one host, so that one that makes names up
displaces no other; the one without an event for the longest time (in the order of messages) is forgotten first. Per key the
counts of :data:`_MINUTES` minutes, the last touched ones: when a newer minute begins, those go that are more than three
minutes older and below a quarter of the budget (a minute that is forgotten begins again at 0, which stores too much, not too
little). Templates for :data:`_DETAILED` surges, :data:`TEMPLATES` each (space-saving counts,
Metwally et al. 2005).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from ezadmin_pipeline import alerts
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.lines import SAMPLE_RATE
from ezadmin_pipeline.settings import SurgeSettings
from ezadmin_wire.batch import Batch
from ezadmin_wire.ids import event_id_prefix
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.times import format_time

MAX_KEYS = 4096
MAX_HOST_KEYS = 512
TEMPLATES = 20
EXEMPLARS = 20
_EXEMPLARS_A_MINUTE = 400
"""Where every line has a template of its own, exemplars would be all of them."""
_DETAILED = 128
_MINUTES = 64
_RECENT_MINUTES = 3
_NEW_HOST = 10
_LIMITED_LEVELS = frozenset(LEVELS[LEVELS.index("error") :])
_NEVER_LIMITED = re.compile(r"(?:^|[._-])(?:auditd?|jobs?)(?:[._-]|$)")
_RAISED = re.compile(rb'"log\.level":"(?:' + "|".join(LEVELS[: LEVELS.index("error")]).encode() + rb')"')
_ERROR_FLOOR = 100
_ERROR_SHIFT = 6
_QUIET_MINUTES = 5
_SILENT_MINUTES = 15
_TEXT = 160
_VARIABLE = re.compile(
    r"\b(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|[0-9A-Fa-f]{8,}\b"
    r"|[^\W\d]*\d\w*(?:[.:]+[0-9A-Fa-f]*\d\w*)*)"
    r"|(?<!\w)(?:\"[^\"]*\"|'[^']*')"
)
_SAMPLE_RATE = SAMPLE_RATE.encode()
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_KNOWN_TEMPLATES = 8192


class _Message(msgspec.Struct):
    message: Any = None


_peek = msgspec.json.Decoder(_Message).decode


_templates: dict[bytes, str] = {}
"""Templates by the texts whose digits are all 0: to know one is much cheaper than to make it."""


def template_of(text: str) -> str:
    """``text`` with what varies masked: uuids, quoted text, hexadecimal words, words with a digit, addresses."""
    plain = text.encode().translate(_DIGITS)
    template = _templates.get(plain)
    if template is None:
        if len(_templates) >= _KNOWN_TEMPLATES:
            _templates.clear()
        template = _templates[plain] = _VARIABLE.sub("*", text)
    return template


def _text_of(line: bytes) -> str:
    """The beginning of a line's message."""
    try:
        message = _peek(line).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = None
    # the commit record and the alert must be able to hold it
    return (
        message[:_TEXT].replace("\0", " ").encode("utf-8", "replace").decode()
        if isinstance(message, str)
        else "(no message)"
    )


@lru_cache(maxsize=10_000)
def _minute_number(minute: str) -> int:
    """``YYYY-MM-DDTHH:MM`` as minutes since 1970."""
    days = date.fromisoformat(minute[:10]).toordinal() - 719_163
    return days * 1440 + int(minute[11:13]) * 60 + int(minute[14:16])


def _moment(minute: int, milliseconds: int = 0) -> str:
    return format_time(datetime.fromtimestamp(minute * 60 + milliseconds / 1000, UTC))


def floor_of(settings: SurgeSettings, dataset: str, level: str) -> int | None:
    """Events per minute that are always stored, None if all are."""
    return None if level not in _LIMITED_LEVELS or _never_limited(dataset) else _floor(settings, level)


def _floor(settings: SurgeSettings, level: str) -> int:
    return max(settings.floor, _ERROR_FLOOR) if level == "error" else settings.floor


class _Host:
    """``born``: hour of its first event. ``newest``: its newest minute. ``keys``: how many it has."""

    __slots__ = ("born", "keys", "newest")

    def __init__(self, born: int, newest: int) -> None:
        self.born = born
        self.newest = newest
        self.keys = 0


class _Key:
    """``hour``: newest hour; ``sum``: events in it; ``last``: events in the closed hour before; ``minutes``: events per
    minute, the last touched last; ``told``: newest minute of a surge that is over."""

    __slots__ = ("budget", "hour", "last", "minutes", "sum", "surge", "surging_minute", "told")

    def __init__(self, hour: int, sum: int = 0, last: int = 0) -> None:
        self.hour = hour
        self.sum = sum
        self.last = last
        self.minutes: dict[int, int] = {}
        self.told = 0
        self.budget = 0
        self.surging_minute = 0
        """What a minute over the budget counts as in its hour."""
        self.surge: _Surge | None = None


class _Surge:
    """``loud``: newest minute above half the budget; ``host_mark``, ``others_mark``: what the time was, told by its host
    and by others, when the last event of such a minute came; ``shown``: exemplars stored in ``minute``."""

    __slots__ = (
        "host_mark",
        "loud",
        "minute",
        "others_mark",
        "peak",
        "seen",
        "shown",
        "start",
        "templates",
        "withheld",
    )

    def __init__(self, start: int) -> None:
        self.start = self.loud = self.minute = start
        self.host_mark = self.others_mark = self.peak = self.seen = self.withheld = self.shown = 0
        self.templates: dict[str, tuple[int, int, str]] | None = None
        """Per template its count, how much of that may be another's, and an example. None: no room for them."""

    def exemplar(self, minute: int, text: str) -> bool:
        """Count an event over the budget by its template; whether it is one of the first."""
        if self.templates is None:
            return False
        template = template_of(text)
        known = self.templates.get(template)
        if known is None:
            inherited = 0
            if len(self.templates) >= TEMPLATES:
                smallest = min(self.templates, key=lambda name: self.templates[name][0])  # type: ignore[index]
                inherited = self.templates.pop(smallest)[0]
            known = (inherited, inherited, text)
        count, inherited, example = known
        self.templates[template] = (count + 1, inherited, example)
        if minute > self.minute:
            self.minute, self.shown = minute, 0
        if count + 1 - inherited > EXEMPLARS or self.shown >= _EXEMPLARS_A_MINUTE:
            return False
        self.shown += 1
        return True


_FIELDS = tuple(name for name in _Surge.__slots__ if name != "templates")
"""What the commit record holds of an open surge, in this order."""


class _Group:
    """The lines of one batch, minute and level of a key over its budget: ``free`` of them are still below it."""

    __slots__ = ("free", "mask", "minute", "surge")

    def __init__(self, minute: int, surge: _Surge | None, free: int, shift: int) -> None:
        self.minute = minute
        self.surge = surge
        self.free = free
        self.mask = (1 << shift) - 1


@dataclass(frozen=True)
class Change:
    """A surge that began or ended, as far as it is known. Rates in events per minute; times as on the wire."""

    host: str
    dataset: str
    level: str
    over: bool
    start: str
    end: str
    peak: int
    budget: int
    usual: float
    seen: int
    withheld: int
    templates: list[dict[str, Any]]

    def alert(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """The alert; ``members`` are the host's name and labels."""
        item = f"{self.dataset}/{self.level}"
        usual = f"usual {self.usual:.1f} a minute, budget {self.budget}"
        if self.over:
            text = f"{item}: the surge since {self.start} is over: {self.seen} events, {self.withheld} of them withheld"
        else:
            text = f"{item}: {self.peak} events in a minute ({usual}): what is over the budget is sampled"
        if self.templates:
            text += f"; most: {self.templates[0]['template']}"
        document = alerts.surge_alert(
            self.host,
            members,
            time=self.end if self.over else self.start,
            item=item,
            state="ok" if self.over else "warning",
            previous="warning" if self.over else "ok",
            reason="surge_over" if self.over else "surge",
            message=text,
            value=self.peak,
            limit=self.budget,
        )
        document["event.start"] = self.start
        if self.over:
            document["event.end"] = self.end
        document["surge.seen"] = self.seen
        document["surge.withheld"] = self.withheld
        document["surge.usual"] = round(self.usual, 3)
        document["surge.templates"] = self.templates
        return document


Exempt = Callable[[bytes, str, str], bool]
"""Whether a rule exempts a line, given the line, its minute and its level."""
Exemption = Callable[[Batch], Exempt | None]
"""Gives that for a batch, None if no rule does."""


class Surges:
    """What is known of one partition. Loaded from its commit record, and dumped into the next."""

    def __init__(self, settings: SurgeSettings, state: Mapping[str, Any] | None = None, exemplars: Any = None) -> None:
        self._settings = settings
        self._hosts: dict[str, _Host] = {}
        self._keys: OrderedDict[tuple[str, str, str], _Key] = OrderedDict()
        self._open: dict[tuple[str, str, str], _Surge] = {}
        self._clock: list[tuple[int, str]] = []
        """Newest minutes of the three hosts that are furthest, with the host."""
        self._changes: list[Change] = []
        if state:
            self._load(state, exemplars or {})

    @property
    def open(self) -> int:
        """Number of keys in a surge."""
        return len(self._open)

    # messages

    def take(
        self, batch: Batch, tally: Mapping[tuple[str, str], Sequence[int]], chunk: Chunk, exemption: Exemption
    ) -> list[Change]:
        """Judge the lines of ``chunk``, that ``batch`` brought and that would be stored; those withheld move to
        ``chunk.sampled``.

        ``tally`` has, per minute and level of those lines, their number first. ``exemption`` is asked where a budget
        is exceeded only. Returns the surges that began or ended.
        """
        host_id, dataset = batch.host, batch.dataset
        self._changes = []
        if not tally:
            return []
        newest = _minute_number(max(tally)[0])
        host = self._hosts.get(host_id)
        if host is not None and newest > host.newest:
            self._advance(host_id, host, newest)
        if _never_limited(dataset):
            return self._changes
        over: dict[tuple[str, str], _Group] = {}
        begun = []
        keys = self._keys
        for cell, figures in tally.items():
            minute, level = cell
            if level not in _LIMITED_LEVELS:
                continue
            count = figures[0]
            at = _minute_number(minute)
            hour = at // 60
            name = (host_id, dataset, level)
            key = keys.get(name)
            if key is None:
                key = self._add(name, at, newest)
            else:
                keys.move_to_end(name)
                if hour > key.hour:
                    key.hour, key.last, key.sum = hour, key.sum, 0
                    self._set_budget(level, key, self._hosts[host_id])
            minutes = key.minutes
            before = minutes.pop(at, 0)
            if not before:
                _make_room(key, at)
            after = minutes[at] = before + count
            budget = key.budget
            if hour == key.hour:
                if after <= budget:
                    key.sum += count
                else:
                    key.sum += key.surging_minute - (before if before <= budget else key.surging_minute)
            surge = key.surge
            if after > budget:
                if surge is None and at > key.told:
                    surge = key.surge = self._open[name] = _Surge(at)
                    surge.seen = before
                    if len(self._open) <= _DETAILED:
                        surge.templates = {}
                    begun.append(name)
                shift = (-(-after // budget) - 1).bit_length()
                if level == "error":
                    shift = min(shift, _ERROR_SHIFT)
                over[cell] = _Group(at, surge, max(0, budget - before), shift)
            if surge is not None:
                surge.seen += count
                surge.peak = max(surge.peak, after)
                if 2 * after > budget:
                    surge.loud = max(surge.loud, at)
                    surge.host_mark = self._hosts[host_id].newest
                    surge.others_mark = self._others(host_id)
        if over:
            self._thin(batch, chunk, over, exemption)
            self._changes += [self._change(name, over=False) for name in begun]
        return self._changes

    def _thin(self, batch: Batch, chunk: Chunk, over: Mapping[tuple[str, str], _Group], exemption: Exemption) -> None:
        ids = blake2b(event_id_prefix(batch.host, batch.stream, batch.epoch).encode(), digest_size=4)
        exempt = exemption(batch)
        kept = []
        for i, (minute, level, raw) in enumerate(chunk.tags):
            group = over.get((minute, level))
            if group is None or group.free > 0:
                if group is not None:
                    group.free -= 1
                kept.append(i)
                continue
            surge = group.surge
            exemplar = surge is not None and surge.exemplar(group.minute, _text_of(raw))
            document = chunk.documents[i]
            if (
                exemplar
                or (not document.endswith(raw[1:]) and _RAISED.search(document))  # a rule has changed it
                or (exempt is not None and exempt(raw, minute, level))
            ):
                kept.append(i)
                continue
            identity = ids.copy()
            identity.update(b"%x" % (batch.seq + chunk.numbers[i]))
            if int.from_bytes(identity.digest(), "little") & group.mask == 0:
                chunk.documents[i] = b'{"%b":%d,' % (_SAMPLE_RATE, group.mask + 1) + document[1:]
                kept.append(i)
            else:
                if surge is not None:
                    surge.withheld += 1
                chunk.sampled.append(chunk.tags[i])
        if len(kept) < len(chunk.tags):
            chunk.keep(kept)

    # keys and hosts

    def _add(self, name: tuple[str, str, str], minute: int, newest: int) -> _Key:
        host = self._hosts.get(name[0])
        if host is None:
            host = self._hosts[name[0]] = _Host(minute // 60, 0)
            self._advance(name[0], host, newest)
        host.keys += 1
        key = self._keys[name] = _Key(minute // 60)
        self._set_budget(name[2], key, host)
        if host.keys > MAX_HOST_KEYS or len(self._keys) > MAX_KEYS:
            own = host.keys > MAX_HOST_KEYS
            oldest = next(other for other in self._keys if not own or other[0] == name[0])
            if oldest in self._open:
                self._end(oldest)
            del self._keys[oldest]
            self._hosts[oldest[0]].keys -= 1
            if not self._hosts[oldest[0]].keys:
                del self._hosts[oldest[0]]
        return key

    def _set_budget(self, level: str, key: _Key, host: _Host) -> None:
        floor, factor = _floor(self._settings, level), self._settings.factor
        if key.hour <= host.born + 1:
            floor *= _NEW_HOST
        key.budget = max(floor, int(factor * key.last / 60))
        key.surging_minute = min(key.budget, int(2 * key.budget / factor))

    # time

    def _advance(self, host_id: str, host: _Host, newest: int) -> None:
        host.newest = newest
        clock = [entry for entry in self._clock if entry[1] != host_id]
        self._clock = sorted([*clock, (newest, host_id)], reverse=True)[:3]
        for name in [name for name, surge in self._open.items() if self._is_over(name[0], surge)]:
            self._end(name)

    def _others(self, host_id: str) -> int:
        """The time as hosts other than this one tell it, 0 if there is none."""
        others = [minute for minute, name in self._clock if name != host_id]
        return others[:2][-1] if others else 0

    def _is_over(self, host_id: str, surge: _Surge) -> bool:
        if self._hosts[host_id].newest - surge.host_mark > _QUIET_MINUTES:
            return True
        others = self._others(host_id)
        if not surge.others_mark:
            surge.others_mark = others
        return others - surge.others_mark >= _SILENT_MINUTES

    def end_all(self) -> list[Change]:
        """End every surge as it stands."""
        self._changes = []
        for name in list(self._open):
            self._end(name)
        return self._changes

    def _end(self, name: tuple[str, str, str]) -> None:
        self._changes.append(self._change(name, over=True))
        key = self._keys[name]
        key.told = self._open.pop(name).loud
        key.surge = None

    def _change(self, name: tuple[str, str, str], over: bool) -> Change:
        key, surge = self._keys[name], self._open[name]
        found = sorted((surge.templates or {}).items(), key=lambda item: -item[1][0])
        return Change(
            *name,
            over=over,
            start=_moment(surge.start),
            end=_moment(surge.loud, 59_999),  # never the moment at which another one begins
            peak=surge.peak,
            budget=key.budget,
            usual=key.last / 60,
            seen=surge.seen,
            withheld=surge.withheld,
            templates=[
                {"template": template, "count": count, "example": example}
                for template, (count, _, example) in found[:5]
            ],
        )

    # commit record

    def dump(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state for the commit record, and the exemplars of open surges: per place in its ``open``, templates.

        Nothing is in it if nothing is known. Hours are counted from ``hour``, minutes from the key's hour; names are
        given by their place in a list.
        """
        if not self._keys:
            return {}, {}
        base = max(key.hour for key in self._keys.values())
        hosts = {host: place for place, host in enumerate(self._hosts)}
        names: dict[str, int] = {}
        keys = []
        for (host, dataset, level), key in self._keys.items():
            start = key.hour * 60
            fields = [hosts[host], names.setdefault(dataset, len(names)), names.setdefault(level, len(names))]
            fields += [key.hour - base, key.sum, key.last]
            for minute, count in key.minutes.items():
                fields += (minute - start, count)
            keys.append(fields)
        places = {name: place for place, name in enumerate(self._keys)} if self._open else {}
        state = {
            "hour": base,
            "clock": [[minute, host] for minute, host in self._clock],
            "hosts": [[host, entry.born, entry.newest] for host, entry in self._hosts.items()],
            "names": list(names),
            "keys": keys,
            "told": [[place, key.told] for place, key in enumerate(self._keys.values()) if key.told],
            "open": [
                [places[name], *(getattr(surge, field) for field in _FIELDS)] for name, surge in self._open.items()
            ],
        }
        exemplars = {
            str(place): [[count, inherited, example] for count, inherited, example in surge.templates.values()]
            for place, surge in enumerate(self._open.values())
            if surge.templates is not None
        }
        return state, exemplars

    def _load(self, state: Mapping[str, Any], exemplars: Mapping[str, Any]) -> None:
        self._clock = [(minute, host) for minute, host in state["clock"]]
        for host, born, newest in state["hosts"]:
            self._hosts[host] = _Host(born, newest)
        hosts, names = list(self._hosts), state["names"]
        for host, dataset, level, hour, total, last, *minutes in state["keys"]:
            key = _Key(hour + state["hour"], total, last)
            start = key.hour * 60
            key.minutes = {start + minute: count for minute, count in zip(minutes[::2], minutes[1::2], strict=True)}
            name = (hosts[host], names[dataset], names[level])
            self._keys[name] = key
            self._hosts[name[0]].keys += 1
            self._set_budget(name[2], key, self._hosts[name[0]])
        order = list(self._keys)
        for at, told in state["told"]:
            self._keys[order[at]].told = told
        for place, (at, *figures) in enumerate(state["open"]):
            surge = _Surge(0)
            for field, figure in zip(_FIELDS, figures, strict=True):
                setattr(surge, field, figure)
            templates = exemplars.get(str(place))
            if templates is not None:
                surge.templates = {template_of(entry[2]): tuple(entry) for entry in templates}
            self._open[order[at]] = self._keys[order[at]].surge = surge

    # explaining

    def explain(self, host: str) -> Iterator[str]:
        """What is known of the keys of ``host``, a line each."""
        for name, key in self._keys.items():
            if name[0] != host:
                continue
            line = f"{name[1]}, {name[2]}: budget {key.budget} a minute, usual {key.last / 60:.1f}"
            if key.surge is not None:
                change = self._change(name, over=False)
                line += f"; in a surge since {change.start}: {change.seen} events, {change.withheld} withheld"
            yield line


def _make_room(key: _Key, at: int) -> None:
    """Forget minutes of ``key`` before the new minute ``at`` is kept."""
    minutes = key.minutes
    if minutes and at > max(minutes):
        small = [
            minute for minute, count in minutes.items() if minute < at - _RECENT_MINUTES and 4 * count < key.budget
        ]
        for minute in small:
            del minutes[minute]
    if len(minutes) >= _MINUTES:
        del minutes[next(iter(minutes))]


@lru_cache(maxsize=10_000)
def _never_limited(dataset: str) -> bool:
    return _NEVER_LIMITED.search(dataset) is not None
