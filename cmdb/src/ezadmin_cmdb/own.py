"""The warnings and errors of worker and web application as events (dataset ``cmdb.log``), signed with a key of the cmdb's own."""

from __future__ import annotations

import functools
import logging

from flask import Flask
from kafka import KafkaProducer
from sqlalchemy.exc import SQLAlchemyError

from ezadmin_cmdb import __version__
from ezadmin_cmdb.hosts.services import verify_key
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.settings import Settings, SettingsError
from ezadmin_wire import WireError
from ezadmin_wire.config import host_key
from ezadmin_wire.own import EventHandler, Identity, OwnProducer
from ezadmin_wire.signing import SigningKey

DATASET = "cmdb.log"


def identity(settings: Settings, make: bool = False) -> Identity:
    """Who the cmdb is where it tells of itself; ``make`` makes the key if there is none. Raises SettingsError."""
    if settings.own_key is None:
        raise SettingsError('no key is set: write key = "…", a file that is made if needed, under [own]')
    try:
        if make and not settings.own_key.exists():
            SigningKey.generate().save(settings.own_key)
        return Identity.load(settings.own_key)
    except WireError as error:
        raise SettingsError(f"[own]: key: {error}") from error
    except OSError as error:
        raise SettingsError(f"[own]: key {settings.own_key} cannot be made: {error.strerror}") from error


def believed(known: Identity) -> bool:
    """Whether the readers of the config records know our key and listen to us: what is sent before is a dead letter."""
    try:
        key = verify_key(known.host_id, known.key.kid)
    except WireError:  # a person has taken us out of service
        return False
    return key is not None and outbox.is_published(host_key(known.host_id))


def start(app: Flask, settings: Settings, program: str) -> OwnProducer | None:
    """Begin to write what this process logs; None if no key is set. Raises SettingsError."""
    if settings.own_key is None:
        return None
    known = identity(settings)
    once = False

    def ready() -> bool:
        nonlocal once
        if not once:
            try:
                with app.app_context():
                    once = believed(known)
            except SQLAlchemyError:
                return False
        return once

    connect = functools.partial(KafkaProducer, **settings.kafka.options())
    producer = OwnProducer(known, settings.names, __version__, connect, ready)
    logging.getLogger().addHandler(EventHandler(producer, DATASET, program, ("ezadmin_cmdb", "ezadmin_wire")))
    producer.start()
    return producer
