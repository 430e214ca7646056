"""How to reach Elasticsearch: the table ``[elasticsearch]`` of pipeline and cmdb, and what becomes of it for the client.

No password stands in the settings: they name a file or an environment variable. Nothing here imports the client.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlsplit

from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import read_secret

_TEXTS = ("user", "password_file", "password_env", "api_key_file", "api_key_env", "ca_file")
_KNOWN = ("url", *_TEXTS, "verify")


@dataclass(frozen=True)
class ElasticConnection:
    """A way to Elasticsearch. Its text names no secret.

    ``urls``: one or more nodes of one cluster, which share the work. One signs in as ``user`` with a password, or with an
    API key. ``ca_file``: certificates of the authority that signed the nodes' (else those that the Python package
    certifi brings). ``verify`` False: any certificate is taken, so that whoever stands in between reads along.
    """

    urls: tuple[str, ...]
    user: Optional[str] = None
    password_file: Optional[str] = None
    password_env: Optional[str] = None
    api_key_file: Optional[str] = None
    api_key_env: Optional[str] = None
    ca_file: Optional[str] = None
    verify: bool = True

    @classmethod
    def parse(cls, table: Mapping[str, Any], where: str) -> ElasticConnection:
        """Check the decoded table ``[elasticsearch]`` and the files it names; ``where`` names it in errors.

        Raises WireError (``bad_elasticsearch``); the text names the key and what to write.
        """
        for key, value in table.items():
            if key in ("password", "api_key"):
                raise _error(where, f"a secret does not stand in this file: write {key}_file or {key}_env")
            if key not in _KNOWN:
                raise _error(where, f"unknown setting {key!r}; known are {', '.join(sorted(_KNOWN))}")
            if key in _TEXTS and (not isinstance(value, str) or not value):
                raise _error(where, f'{key} = {value!r}: write {key} = "…"')
        verify = table.get("verify", True)
        if not isinstance(verify, bool):
            raise _error(where, f"verify = {verify!r}: write true or false")
        given = table.get("url")
        urls = [given] if isinstance(given, str) else given
        if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
            raise _error(where, 'url is missing or no text: write url = "https://host:9200", or a list of such')
        connection = cls(
            tuple(_url(url, where) for url in urls),
            **{key: table[key] for key in _TEXTS if key in table},
            verify=verify,
        )
        connection.check(where)
        return connection

    def check(self, where: str) -> None:
        """Whether the members fit together and the files can be used. Raises WireError (``bad_elasticsearch``)."""
        schemes = {urlsplit(url).scheme for url in self.urls}
        if len(schemes) > 1:
            raise _error(where, "url: write http:// for all nodes, or https:// for all")
        if schemes == {"http"} and (self.ca_file is not None or not self.verify):
            raise _error(where, "ca_file and verify are of no use with http://: write https:// in url")
        passwords = [key for key in ("password_file", "password_env") if getattr(self, key) is not None]
        keys = [key for key in ("api_key_file", "api_key_env") if getattr(self, key) is not None]
        if self.user is not None and len(passwords) != 1:
            raise _error(where, "user needs a password: write either password_file or password_env")
        if passwords and self.user is None:
            raise _error(where, f"{passwords[0]} is of no use without user")
        if len(keys) > 1:
            raise _error(where, "write either api_key_file or api_key_env")
        if keys and self.user is not None:
            raise _error(where, "write either user with a password, or an API key")
        try:
            self.options()
            if self.ca_file is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.ca_file)
        except WireError as error:
            raise _error(where, str(error)) from error
        except OSError as error:
            raise _error(where, f"ca_file {self.ca_file}: {error.strerror or error}") from error

    def options(self) -> dict[str, Any]:
        """What the client's constructor needs to know, ``hosts`` included; holds secrets: show it nobody.

        Raises WireError (``bad_secret``) if a secret cannot be read.
        """
        options: dict[str, Any] = {"hosts": list(self.urls)}
        if self.urls[0].startswith("https:"):
            options["verify_certs"] = self.verify
            if self.ca_file is not None:
                options["ca_certs"] = self.ca_file
            if not self.verify:
                options["ssl_show_warn"] = False  # said once by us, not by every pool
        authorization = self.authorization()
        if authorization is not None:
            options["headers"] = {"authorization": authorization}
        return options

    def authorization(self) -> Optional[str]:
        """The value of the header ``Authorization``; None: no sign-in. Raises WireError (``bad_secret``).

        Said by ourselves, because the client's transport, which the pipeline uses, knows nothing of users.
        """
        if self.user is not None:
            password = _secret(self.password_file, self.password_env, "password")
            return "Basic " + base64.b64encode(f"{self.user}:{password}".encode()).decode()
        if self.api_key_file is not None or self.api_key_env is not None:
            return "ApiKey " + _secret(self.api_key_file, self.api_key_env, "api_key")
        return None

    def each(self) -> list[ElasticConnection]:
        """One connection for each node, signed in the same way."""
        members = {name: getattr(self, name) for name in (*_TEXTS, "verify")}
        return [ElasticConnection((url,), **members) for url in self.urls]

    def __str__(self) -> str:
        """Addresses, and how one gets in."""
        how = f" as {self.user}" if self.user else ""
        how = " with an API key" if self.api_key_file or self.api_key_env else how
        return ", ".join(self.urls) + how


def _secret(path: Optional[str], variable: Optional[str], what: str) -> str:
    if variable is None:
        return read_secret(str(path), f"{what}_file")
    secret = os.environ.get(variable, "")
    if not secret:
        raise WireError("bad_secret", f"{what}_env: the environment variable {variable} is not set")
    return secret


def _url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise _error(where, f"url = {url!r}: write http://host:port or https://host:port")
    if parts.username is not None:
        raise _error(where, "url: no user and password in it: write user, and password_file or password_env")
    return url.rstrip("/")


def _error(where: str, text: str) -> WireError:
    return WireError("bad_elasticsearch", f"{where}: {text}")
