"""A user in Kafka for each host that enrols: its password goes to the host, what SCRAM needs of it to the table.

The gateway, which the internet may reach, cannot make users in Kafka; the worker can, and has only the salted hashes.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Sequence
from hashlib import pbkdf2_hmac
from typing import Any

from flask import Flask
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialDeletion, UserScramCredentialUpsertion
from kafka.errors import KafkaError
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.kafka_access.models import KafkaUser
from ezadmin_cmdb.kafka_access.setup import MECHANISM
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
ITERATIONS = 4096
"""The least that Kafka takes; a random password of 192 bits needs no more."""
POLL_SECONDS = 1.0
RETRY_SECONDS = 10.0
AT_ONCE = 200
QUARANTINED = "quarantined"


def make(host_id: str) -> str:
    """A new password for the host's user, in place of any before; Kafka knows it soon after the commit."""
    password, salt = secrets.token_urlsafe(24), secrets.token_bytes(24)
    user = db.session.scalar(select(KafkaUser).where(KafkaUser.host_id == host_id).with_for_update())
    if user is None:
        user = KafkaUser(host_id=host_id)
        db.session.add(user)
    user.salt, user.iterations, user.made, user.made_known = salt, ITERATIONS, utc_now(), None
    user.salted = pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return password


class KafkaUserKeeper(Part):
    """The part of the worker that has Kafka know the hosts' users, and forget those of hosts revoked or deleted.

    The user of a host in quarantine is made known when a person accepts the host.
    """

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__("kafka-users", stopping)
        self._app = app
        self._settings = settings
        self._admin: Any = None
        self._told = ""

    def work(self) -> None:
        """Tell Kafka, and try again what fails."""
        pause = 0.0
        while not self.stopping.wait(pause):
            pause = POLL_SECONDS
            try:
                with self._app.app_context():
                    while not self.stopping.is_set() and self.round():
                        pass
                self._told = ""
            except (KafkaError, DBAPIError, PoolTimeout, Refused) as error:
                pause = RETRY_SECONDS
                self._disconnect()
                why = self._settings.kafka.trouble() if isinstance(error, KafkaError) else ""
                self._tell(why or str(error))
        self._disconnect()

    def round(self) -> bool:
        """Tell Kafka of some; whether there were any. Needs an application context. Raises Refused, KafkaError."""
        with unit_of_work():
            users = select(KafkaUser).outerjoin(Host, Host.id == KafkaUser.host_id).limit(AT_ONCE)
            gone = db.session.scalars(users.where(Host.id.is_(None) | (Host.state == "revoked"))).all()
            listened = Host.state.not_in(("revoked", QUARANTINED))
            new = db.session.scalars(users.where(KafkaUser.made_known.is_(None), listened)).all()
            waits = db.session.scalars(users.where(KafkaUser.made_known.is_not(None), Host.state == QUARANTINED)).all()
            if not new and not gone and not waits:
                return False
            forgotten = [user.host_id for user in (*gone, *waits)]
            self._alter([*map(_known, new), *(UserScramCredentialDeletion(user, MECHANISM) for user in forgotten)])
            for user, moment in (*((one, utc_now()) for one in new), *((one, None) for one in waits)):
                # not if it was made anew meanwhile: that one is still to be told
                same = (KafkaUser.id == user.id) & (KafkaUser.salt == user.salt)
                db.session.execute(update(KafkaUser).where(same).values(made_known=moment))
            db.session.execute(delete(KafkaUser).where(KafkaUser.id.in_([user.id for user in gone])))
        return True

    def _alter(self, alterations: Sequence[Any]) -> None:
        if self._admin is None:
            self._admin = KafkaAdminClient(**self._settings.kafka.options(), bootstrap_timeout_ms=5_000)
        for user, text in self._admin.alter_user_scram_credentials(list(alterations)).items():
            if text and "delete a user credential that does not exist" not in text:
                raise Refused(f"user {user}: {text}")

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _tell(self, text: str) -> None:
        if text != self._told:
            _log.warning(
                "users of hosts are not made known to Kafka, tried again each %.0f s: %s (`ezadmin-cmdb kafka setup` "
                "gives the right to)",
                RETRY_SECONDS,
                text,
            )
        self._told = text


class Refused(Exception):
    """Kafka does not take a user."""


def _known(user: KafkaUser) -> UserScramCredentialUpsertion:
    made = UserScramCredentialUpsertion(user.host_id, MECHANISM, b"", iterations=user.iterations, salt=user.salt)
    made.salted_password = user.salted  # the client would salt a password, which is not here
    return made
