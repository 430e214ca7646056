"""Passwords that an LDAP directory knows: found by a search, proven by a bind. Needs ``pip install ezadmin-cmdb[ldap]``."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.accounts.external import Person
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.settings import Ldap, SettingsError

_log = logging.getLogger(__name__)
SECONDS = 5
KEYS = ("entryUUID", "objectGUID")
"""Attributes that stay when an entry is renamed; where there is neither, its name counts."""


class DirectoryUnavailable(DomainError):
    """The directory does not answer; accounts of ezadmin's own sign in all the same."""

    status = 503


def check_installed() -> None:
    """Raises SettingsError if the library is missing."""
    try:
        import ldap3  # noqa: F401
    except ImportError as error:
        raise SettingsError("[ldap] needs a library: pip install 'ezadmin-cmdb[ldap]'") from error


def authenticate(settings: Ldap, name: str, password: str) -> Person | None:
    """Who it is, None if name or password are wrong. Raises DirectoryUnavailable."""
    from ldap3.core.exceptions import LDAPException

    if not name or not password:  # an empty password would be an anonymous bind, which succeeds
        return None
    try:
        return _authenticate(settings, name, password)
    except (LDAPException, OSError, SettingsError) as error:
        _log.error("the directory %s cannot be asked: %s", settings.url, error)
        raise DirectoryUnavailable(_("The directory does not answer. Try again later.")) from error


def _authenticate(settings: Ldap, name: str, password: str) -> Person | None:
    from ldap3 import SUBTREE
    from ldap3.core.exceptions import LDAPBindError, LDAPInvalidCredentialsResult
    from ldap3.utils.conv import escape_filter_chars

    with _connection(settings, settings.bind_dn, settings.password()) as searching:
        wanted = settings.user_filter.replace("{name}", escape_filter_chars(name))
        known = (
            {one.casefold() for one in searching.server.schema.attribute_types} if searching.server.schema else set()
        )
        asked = [settings.name_attribute, *(one for one in KEYS if one.casefold() in known)]
        if settings.group_attribute.casefold() in known:
            asked.append(settings.group_attribute)
        searching.search(settings.base, wanted, SUBTREE, attributes=asked, size_limit=2)
        entries = [one for one in searching.response or [] if one.get("type") == "searchResEntry"]
        if len(entries) != 1:
            return None
        dn = entries[0]["dn"]
        values = {key.casefold(): value for key, value in entries[0]["attributes"].items()}
        try:
            with _connection(settings, dn, password):
                pass
        except (LDAPBindError, LDAPInvalidCredentialsResult):
            return None
        groups = _texts(values.get(settings.group_attribute.casefold()))
        if settings.group_base:
            member = settings.group_filter.replace("{dn}", escape_filter_chars(dn)).replace(
                "{name}", escape_filter_chars(name)
            )
            searching.search(settings.group_base, member, SUBTREE, attributes=["cn"])
            found = [one for one in searching.response or [] if one.get("type") == "searchResEntry"]
            groups += [one["dn"] for one in found] + [
                text for one in found for text in _texts(one["attributes"].get("cn"))
            ]
    key = next((text for one in KEYS for text in _texts(values.get(one.casefold()))), dn)
    called = next(iter(_texts(values.get(settings.name_attribute.casefold()))), name)
    return Person("ldap", key, called, groups)


@contextmanager
def _connection(settings: Ldap, dn: str | None, password: str | None) -> Iterator[Any]:
    """A bound connection, closed at the end (ldap3's own context leaves one open that was bound before)."""
    from ldap3 import AUTO_BIND_NO_TLS, AUTO_BIND_TLS_BEFORE_BIND, SCHEMA, Connection, Server, Tls

    ca_file = str(settings.ca_file) if settings.ca_file else None
    tls = Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=ca_file)
    server = Server(settings.url, connect_timeout=SECONDS, tls=tls, get_info=SCHEMA)
    how = AUTO_BIND_TLS_BEFORE_BIND if settings.start_tls else AUTO_BIND_NO_TLS
    bound = Connection(
        server, dn, password, auto_bind=how, receive_timeout=SECONDS, read_only=True, auto_referrals=False
    )
    try:
        yield bound
    finally:
        bound.unbind()


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one not in (None, "", b"")]
