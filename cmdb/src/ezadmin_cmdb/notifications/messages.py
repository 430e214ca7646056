"""What a message says, and the form in which each service takes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import current_app
from flask_babel import force_locale
from flask_babel import gettext as _

from ezadmin_cmdb.alerts import texts
from ezadmin_cmdb.alerts.description import STATES
from ezadmin_cmdb.alerts.models import Alert
from ezadmin_cmdb.notifications.models import Channel
from ezadmin_wire.times import format_time

MAIL, GENERIC, SLACK, TEAMS, TELEGRAM, KAKAOWORK, NAVERWORKS = (
    "mail", "generic", "slack", "teams", "telegram", "kakaowork", "naverworks",
)  # fmt: skip
SHOWN = 50
"""A message names so many alerts, and says how many more there are."""
SUBJECT_MAX = 255
TEXT_MAX = {TELEGRAM: 4000, KAKAOWORK: 500, NAVERWORKS: 2000, SLACK: 30_000, TEAMS: 15_000}
"""What the services take, in characters; longer texts end with "…"."""
NAMED = ("subject", "text", "site", "target")
"""What stands in braces in a body of one's own."""


@dataclass(frozen=True)
class News:
    """What is told of an alert. ``again``: it is what was told before."""

    alert: Alert
    host: str
    again: bool

    @property
    def name(self) -> str:
        """What the alert is called."""
        return " ".join(f"{self.host}: {self.alert.field} {self.alert.item}".split())


def compose(channel: Channel, site: str | None, news: Sequence[News], now: datetime) -> tuple[str, str]:
    """Subject and body of a message in the language and form of a channel."""
    with force_locale(channel.language):
        subject = _subject(site, news)
        lines = [subject, ""]
        for one in news[:SHOWN]:
            lines += _lines(one)
        if len(news) > SHOWN:
            lines += [_("and %(n)d more", n=len(news) - SHOWN), ""]
        if url := _address("/alerts/"):
            lines.append(url)
    text = "\n".join(lines).strip() + "\n"
    if channel.kind == MAIL:
        return subject, text
    alerts = [_document(one) for one in news]
    return subject, call_body(channel, subject, text, site, alerts, now)


def test_message(channel: Channel, now: datetime) -> tuple[str, str]:
    """Subject and body of the message of the test button."""
    with force_locale(channel.language):
        subject = _("[ezadmin] Test of the channel %(name)s", name=channel.name)[:SUBJECT_MAX]
        text = subject + "\n\n" + _("Whoever reads this is told of alerts by this channel.") + "\n"
    return subject, text if channel.kind == MAIL else call_body(channel, subject, text, None, [], now)


def call_body(
    channel: Channel, subject: str, text: str, site: str | None, alerts: list[dict[str, Any]], now: datetime
) -> str:
    """The JSON of a call."""
    limit = TEXT_MAX.get(channel.kind)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if channel.body:
        values = {"subject": subject, "text": text, "site": site or "", "target": channel.target or ""}
        body = _filled(json.loads(channel.body), values)
    elif channel.kind == GENERIC:
        body = {"time": format_time(now), "subject": subject, "text": text, "site": site, "alerts": alerts}
    else:
        body = _FORMS[channel.kind](subject, text, channel.target)
    return json.dumps(body, ensure_ascii=False)


def _slack(subject: str, text: str, target: str | None) -> dict[str, Any]:
    """An incoming webhook's, or chat.postMessage's with a channel. https://api.slack.com/reference/surfaces/formatting"""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped, **({"channel": target} if target else {})}


def _teams(subject: str, text: str, target: str | None) -> dict[str, Any]:
    """A workflow "when a webhook request is received" takes an adaptive card; its text is Markdown, so that its signs are
    written as characters of their own."""
    plain = "".join(f"\\{char}" if char in "\\*_[]()#`~>" else char for char in text)
    blocks = [{"type": "TextBlock", "text": line, "wrap": True} for line in plain.splitlines() if line]
    blocks[0] |= {"weight": "Bolder"}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": blocks,
    }  # fmt: skip
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def _telegram(subject: str, text: str, target: str | None) -> dict[str, Any]:
    """https://core.telegram.org/bots/api#sendmessage"""
    return {"chat_id": target, "text": text, "disable_web_page_preview": True}


def _kakaowork(subject: str, text: str, target: str | None) -> dict[str, Any]:
    """messages.send. https://docs.kakaoi.ai/kakao_work/webapireference/messages/"""
    return {"conversation_id": target, "text": text}


def _naverworks(subject: str, text: str, target: str | None) -> dict[str, Any]:
    """A bot's message to a channel or user of its address. https://developers.worksmobile.com/kr/docs/bot-channel-message-send"""
    return {"content": {"type": "text", "text": text}}


_FORMS: dict[str, Callable[[str, str, str | None], dict[str, Any]]] = {
    SLACK: _slack, TEAMS: _teams, TELEGRAM: _telegram, KAKAOWORK: _kakaowork, NAVERWORKS: _naverworks,
}  # fmt: skip


def _filled(value: Any, values: dict[str, str]) -> Any:
    """A body of one's own with its named fields filled: in strings alone, so that no text can leave its place."""
    if isinstance(value, str):
        parts = value.split("{")
        done = parts[0]
        for part in parts[1:]:
            name, brace, rest = part.partition("}")
            done += values[name] + rest if brace and name in values else "{" + part
        return done
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    return value


def _subject(site: str | None, news: Sequence[News]) -> str:
    if len(news) == 1:
        what = f"{STATES[news[0].alert.state]}: {news[0].name}"
    else:
        counts = Counter(one.alert.state for one in news)
        what = ", ".join(f"{title} {counts[state]}" for state, title in STATES.items() if counts[state])
    if all(one.again for one in news):
        what = _("still %(what)s", what=what)
    return " ".join(f"[ezadmin] {site + ': ' if site else ''}{what}".split())[:SUBJECT_MAX]


def _lines(one: News) -> list[str]:
    alert, value = one.alert, texts.value_of(one.alert)
    figure = f" = {value}" if value is not None else ""
    again = f" ({_('told before')})" if one.again else ""
    since = _("since %(time)s", time=f"{alert.since:%Y-%m-%d %H:%M:%S} UTC")
    lines = [
        f"{STATES[alert.state]}: {one.name}{figure}, {since}{again}",
        f"  {' '.join(texts.of_alert(alert).split())}",
    ]
    if url := _address(f"/alerts/{alert.id}"):
        lines.append(f"  {url}")
    return [*lines, ""]


def _document(one: News) -> dict[str, Any]:
    alert = one.alert
    return {
        "id": alert.id, "host_id": alert.host_id, "host": one.host, "rule": alert.rule, "field": alert.field,
        "item": alert.item, "state": alert.state, "previous": alert.previous, "value": alert.value,
        "limit": alert.limit_value, "message": alert.message, "since": format_time(alert.since), "again": one.again,
        "url": _address(f"/alerts/{alert.id}"),
    }  # fmt: skip


def _address(path: str) -> str | None:
    url: str | None = current_app.extensions["ezadmin_settings"].web.url
    return None if url is None else url.rstrip("/") + path
