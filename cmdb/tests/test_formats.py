from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask_babel import Babel, force_locale
from markupsafe import Markup

from ezadmin_cmdb.web import formats


@pytest.fixture(autouse=True)
def context() -> Iterator[None]:
    app = Flask("ezadmin_cmdb")
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = "translations"
    Babel(app, locale_selector=lambda: "en", timezone_selector=lambda: "Asia/Seoul")
    with app.test_request_context():
        yield


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 한글 ✓\ttab\nline", "plain 한글 ✓\ttab\nline"),
        ("\x1b[31mred\x1b[0m\x07", "[ESC][31mred[ESC][0m[U+0007]"),
        ("a\x00b\x7f\x9b", "a[U+0000]b[U+007F][U+009B]"),
        ("\u202egnp.exe\u2066", "[U+202E]gnp.exe[U+2066]"),
        ("one\r\ntwo\rthree", "one\ntwo[U+000D]three"),
        ("\ufeff\u200b", "[U+FEFF][U+200B]"),
    ],
)
def test_no_character_takes_effect(text: str, shown: str) -> None:
    assert formats.plain(text) == shown


def test_what_templates_write_passes_it() -> None:
    assert formats.finalize("\x1b") == "[ESC]"
    assert formats.finalize(Markup("<b>")) == "<b>"
    assert formats.finalize(None) == ""
    assert formats.finalize(7) == 7


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "byte", "–"),
        (0, "byte", "0 B"),
        (1023, "byte", "1,023 B"),
        (1536, "byte", "1.5 KiB"),
        (25_247_170_560, "byte", "23.5 GiB"),
        (250 << 30, "byte", "250 GiB"),
        (2 << 20, "byte/s", "2 MiB/s"),
        (0.123, "ratio", "12.3%"),
        (1.0, "ratio", "100.0%"),
        (59_940, "ms", "59.9 s"),
        (61_000, "ms", "1 min 1 s"),
        (93_784_000, "ms", "1 d 2 h"),
        (12.34, "1/s", "12.3/s"),
        (2596.0, "mhz", "2,596 MHz"),
        (10_000, "mbit/s", "10,000 Mbit/s"),
        (1234567, "", "1,234,567"),
        (0.256, "", "0.26"),
        (True, "", "yes"),
        ("full", "", "full"),
    ],
)
def test_figures(value: Any, unit: str, shown: str) -> None:
    assert formats.figure(value, unit) == shown


def test_times() -> None:
    moment = datetime(2026, 11, 24, 19, 51, tzinfo=UTC)
    assert formats.moment(moment) == "2026-11-25 04:51:00"
    assert formats.ago(datetime.now(UTC) - timedelta(seconds=5)) == "5 seconds ago"
    with force_locale("ko"):
        assert formats.ago(datetime.now(UTC) - timedelta(minutes=3)) == "3분 전"
        assert formats.figure(93_784_000, "ms") == "1일 2시간"
