"""``ezadmin-cmdb kafka setup``: makes the users of ezadmin's parts and their rights in a Kafka that asks who one is."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.kafka_access.rights import CLUSTER, GROUP, TOPICS, rights, users
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

MECHANISM = "SCRAM-SHA-512"
_TYPES = {TOPICS: ResourceType.TOPIC, GROUP: ResourceType.GROUP, CLUSTER: ResourceType.CLUSTER}


class SetupRefused(DomainError):
    """Kafka does not let this user make users or rights, or cannot be reached."""


@dataclass(frozen=True)
class Done:
    """What was, or would be, made: ``users`` whose password was set, rights that were ``missing``, and that are ``more``.

    ``more`` are rights of our users that none of them needs: they are told of and left alone.
    """

    users: list[str]
    missing: list[str]
    more: list[str]


def setup(kafka: KafkaConnection, names: Names, folder: Path, dry_run: bool = False) -> Done:
    """Make what is not there yet, as the administrator ``kafka``; a second time changes nothing.

    ``folder`` holds the passwords, one file a user (0600); one that is there is kept and set again.
    Raises SetupRefused, which names what Kafka said and what to do.
    """
    try:
        admin = KafkaAdminClient(**kafka.options(), bootstrap_timeout_ms=5_000)
    except KafkaError as error:
        why = kafka.trouble() or str(error)
        raise SetupRefused(f"Kafka at {kafka}: {why}") from error
    try:
        wanted = acls(names)
        ours = {f"User:{user}" for user in users(names)} | {"User:*"}
        there = _there(admin)
        missing = [acl for acl in wanted if _text(acl) not in there]
        more = sorted(text for text, acl in there.items() if acl.principal in ours and text not in map(_text, wanted))
        if not dry_run:
            _set_passwords(admin, users(names), folder)
            _make(admin, missing)
        return Done(users(names), [_text(acl) for acl in missing], more)
    finally:
        admin.close()


def acls(names: Names) -> list[ACL]:
    """The rights of :mod:`.rights` as Kafka keeps them."""
    return [
        ACL(f"User:{right.user}", "*", _operation(operation), ACLPermissionType.ALLOW, _pattern(right.kind, name))
        for right in rights(names)
        for name in right.names
        for operation in right.operations
    ]


def password(folder: Path, user: str) -> str:
    """The password of ``user``, made if its file is not there. Raises SetupRefused if the folder cannot be used."""
    path = folder / f"{user}.password"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        return path.read_text().strip()
    except OSError as error:
        raise SetupRefused(f"{path}: {error.strerror}; give a folder that can be written as --passwords") from error


def _pattern(kind: str, name: str) -> ResourcePattern:
    return ResourcePattern(_TYPES[kind], name, ACLResourcePatternType.LITERAL)


def _operation(name: str) -> ACLOperation:
    return ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()]


def _there(admin: Any) -> dict[str, ACL]:
    anything = ACLFilter(
        None,
        None,
        ACLOperation.ANY,
        ACLPermissionType.ANY,
        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    try:
        found, _ = admin.describe_acls(anything)
    except KafkaError as error:
        raise SetupRefused(_refused(type(error).__name__, "read the rights")) from error
    return {_text(acl): acl for acl in found}


def _make(admin: Any, missing: list[ACL]) -> None:
    failed = admin.create_acls(missing)["failed"] if missing else []
    if failed:
        acl, error = failed[0]
        raise SetupRefused(_refused(error, f"make the right {_text(acl)!r}"))


def _set_passwords(admin: Any, names: list[str], folder: Path) -> None:
    made = [UserScramCredentialUpsertion(user, MECHANISM, password(folder, user)) for user in names]
    refused = {user: text for user, text in admin.alter_user_scram_credentials(made).items() if text}
    if refused:
        user, text = next(iter(refused.items()))
        raise SetupRefused(_refused(text, f"make the user {user}"))


def _refused(error: object, what: str) -> str:
    return (
        f"Kafka does not let this user {what}: {error}. Sign in as one of the brokers' super.users (--as FILE); "
        "the brokers need authorizer.class.name and a listener with SCRAM"
    )


def _text(acl: ACL) -> str:
    pattern = acl.resource_pattern
    allow = "" if acl.permission_type == ACLPermissionType.ALLOW else "DENY "
    return (
        f"{acl.principal} {allow}{acl.operation.name} {pattern.resource_type.name.lower()} {pattern.resource_name}"
        f"{'' if pattern.pattern_type == ACLResourcePatternType.LITERAL else '*'}"
    )


def shown(done: Done, dry_run: bool) -> Iterator[str]:
    """The lines that a person reads."""
    would = "would be made" if dry_run else "made"
    yield f"users with passwords ({MECHANISM}): {', '.join(done.users)}"
    for text in done.missing:
        yield f"right {would}: {text}"
    if not done.missing:
        yield "all rights were there"
    for text in done.more:
        yield f"not needed, left alone: {text}"
