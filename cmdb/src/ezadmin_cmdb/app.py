"""The Flask application."""

from __future__ import annotations

from flask import Flask

from ezadmin_cmdb.changes import models as _changes
from ezadmin_cmdb.database import ENGINE_OPTIONS, db
from ezadmin_cmdb.hosts import models as _hosts
from ezadmin_cmdb.outbox import models as _outbox
from ezadmin_cmdb.settings import Settings

MODELS = (_changes, _hosts, _outbox)
"""All tables must be known before the first query, for their relations refer to one another."""


def create_app(settings: Settings) -> Flask:
    """Make the application; connects to nothing yet."""
    app = Flask("ezadmin_cmdb")
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = ENGINE_OPTIONS
    db.init_app(app)
    return app
