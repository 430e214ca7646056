"""What a stack with TLS and users has more than a plain one: certificates, and a password for each user of a service."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "ezadmin"
ADMINISTRATOR = "administrator"
"""May do everything in Kafka and Elasticsearch: `up` and `status` ask by it, and stack.json names it."""
KAFKA_USERS = (ADMINISTRATOR, *(f"{PREFIX}-{part}" for part in ("setup", "pipeline", "cmdb", "gateway")))
ELASTICSEARCH_ROLES = {
    ADMINISTRATOR: "superuser",
    **{f"{PREFIX}-{part}": f"{PREFIX}_{part}" for part in ("setup", "pipeline", "cmdb", "grafana")},
}
"""The role of each user of Elasticsearch; what the roles may do stands in es/roles.json."""
USERS = {"kafka": KAFKA_USERS, "elasticsearch": tuple(ELASTICSEARCH_ROLES)}
_ROUNDS = 10_000


@dataclass(frozen=True)
class Security:
    """Files of a stack. ``tls`` holds its authority and the certificate of all its servers, ``keys`` the passwords."""

    tls: Path
    keys: Path

    @property
    def ca_file(self) -> Path:
        """The authority that every client trusts, and no other."""
        return self.tls / "ca.pem"

    @property
    def certificate(self) -> Path:
        """Certificate of all servers, for 127.0.0.1 and localhost."""
        return self.tls / "server.pem"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.tls / "server.key"

    @property
    def both(self) -> Path:
        """Private key and certificate in one file."""
        return self.tls / "server-both.pem"

    def password_file(self, service: str, user: str) -> Path:
        """Where the password of a user of "kafka" or "elasticsearch" stands."""
        return self.keys / service / f"{user}.password"

    def password(self, service: str, user: str) -> str:
        """That password."""
        return self.password_file(service, user).read_text().strip()

    def stamp(self) -> bytes:
        """Changes when a server has to read its certificate anew."""
        return self.certificate.read_bytes()


def elasticsearch_files(security: Security, roles: Mapping[str, Any]) -> dict[str, str]:
    """Certificate, users and roles (``roles``: bodies by name), as Elasticsearch reads them beside its settings."""
    passwords = {user: security.password("elasticsearch", user) for user in ELASTICSEARCH_ROLES}
    return {
        "ca.pem": security.ca_file.read_text(),
        "server.pem": security.certificate.read_text(),
        "server.key": security.key.read_text(),
        "users": "".join(f"{user}:{_hashed(user, password)}\n" for user, password in passwords.items()),
        "users_roles": "".join(f"{role}:{user}\n" for user, role in ELASTICSEARCH_ROLES.items()),
        # JSON is YAML, but the reader of this file wants each role's name at the beginning of a line
        "roles.yml": "".join(f"{name}: {json.dumps(role)}\n" for name, role in roles.items()),
    }


def _hashed(user: str, password: str) -> str:
    """As the file realm reads it: PBKDF2 with SHA-512.

    The salt comes of the password, which is random and this user's alone: so the file stays the same from `up` to `up`.
    """
    salt = hashlib.sha256(f"{user}:{password}".encode()).digest()
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS, 32)
    return f"{{PBKDF2}}{_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"
