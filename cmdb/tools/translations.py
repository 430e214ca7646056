#!/usr/bin/env python3
"""Keeps the translations in step with the texts of code, templates and fields.

    translations.py           bring the catalogues (.po) up to date with the texts, and compile them (.mo)
    translations.py --check   exit status 1, naming them, if texts are missing, fuzzy, out of date or not compiled

English is what stands in the code; every other language must be complete.
"""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "ezadmin_cmdb"
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
OPTIONS = {"templates/**.html": {"trimmed": "true", "silent": "false"}}
KEYWORDS = {"_": None, "_l": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2)}
LANGUAGES = ("ko",)
NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""Catalogues change only with their texts: when that was, git knows."""


def extract() -> Catalog:
    """All texts, with the descriptions of the agent's fields."""
    catalog = Catalog(project="ezadmin-cmdb", charset="utf-8")
    for file, line, message, comments, context in extract_from_dir(PACKAGE, METHODS, OPTIONS, KEYWORDS):
        catalog.add(message, None, [(file, line)], auto_comments=comments, context=context)
    for field in json.loads((PACKAGE / "metrics" / "fields.json").read_text()):
        catalog.add(field["description"], None, [("metrics/fields.json", 0)])
    return catalog


def folder(language: str) -> Path:
    """Where a language's catalogues stand."""
    return PACKAGE / "translations" / language / "LC_MESSAGES"


def read(language: str) -> Catalog:
    """A language's catalogue as it stands."""
    path = folder(language) / "messages.po"
    if not path.exists():
        return Catalog(locale=language, project="ezadmin-cmdb", charset="utf-8")
    with path.open("rb") as file:
        return read_po(file, locale=language)


def update(language: str) -> None:
    """Bring a language's catalogue up to date and compile it."""
    catalog = read(language)
    catalog.update(extract(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    catalog.creation_date = catalog.revision_date = NO_DATE
    folder(language).mkdir(parents=True, exist_ok=True)
    with (folder(language) / "messages.po").open("wb") as file:
        write_po(file, catalog, width=120, sort_output=True, omit_header=False, no_location=True, ignore_obsolete=True)
    with (folder(language) / "messages.mo").open("wb") as file:
        write_mo(file, catalog)


def problems(language: str) -> list[str]:
    """What is wrong with a language's catalogues."""
    catalog, texts = read(language), extract()
    found = [
        f"{language}: not in the catalogue: {message.id!r}"
        for message in texts
        if message.id and message.id not in catalog
    ]
    for message in catalog:
        if not message.id:
            continue
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        if not all(strings):
            found.append(f"{language}: not translated: {message.id!r}")
        if message.fuzzy:
            found.append(f"{language}: fuzzy: {message.id!r}")
        if message.id not in texts:
            found.append(f"{language}: no longer used: {message.id!r}")
        found += [f"{language}: {message.id!r}: {error}" for error in message.check(catalog)]
    compiled = folder(language) / "messages.mo"
    if not compiled.exists():
        return [*found, f"{language}: not compiled"]
    expected = io.BytesIO()
    write_mo(expected, catalog)
    if compiled.read_bytes() != expected.getvalue():
        found.append(f"{language}: the compiled catalogue is out of date")
    return found


def main() -> int:
    """The command."""
    if "--check" not in sys.argv:
        for language in LANGUAGES:
            update(language)
    found = [problem for language in LANGUAGES for problem in problems(language)]
    print("\n".join(found) or "all texts are translated")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
