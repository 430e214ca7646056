"""The Flask application: its core, with which commands and the worker work, and the whole, with pages and API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from ezadmin_cmdb.accounts import guards, second_factor
from ezadmin_cmdb.accounts import models as _accounts
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts import tokens as _tokens
from ezadmin_cmdb.accounts import users as _users
from ezadmin_cmdb.alerts import description as _alerts
from ezadmin_cmdb.alerts import models as _alert_models
from ezadmin_cmdb.audit import description as _audit
from ezadmin_cmdb.audit import models as _audit_models
from ezadmin_cmdb.changes import description as _change_records
from ezadmin_cmdb.changes import models as _changes
from ezadmin_cmdb.commands import description as _commands
from ezadmin_cmdb.commands import models as _command_models
from ezadmin_cmdb.configs import description as _configs
from ezadmin_cmdb.configs import models as _config_models
from ezadmin_cmdb.custom import description as _custom
from ezadmin_cmdb.custom import models as custom
from ezadmin_cmdb.database import ENGINE_OPTIONS, db
from ezadmin_cmdb.datacenter import contacts as _contacts
from ezadmin_cmdb.datacenter import contracts as _contracts
from ezadmin_cmdb.datacenter import customers as _customers
from ezadmin_cmdb.datacenter import device_types as _device_types
from ezadmin_cmdb.datacenter import devices as _devices
from ezadmin_cmdb.datacenter import racks as _racks
from ezadmin_cmdb.datacenter import reminders as _reminders
from ezadmin_cmdb.datacenter import rooms as _rooms
from ezadmin_cmdb.datacenter import sites as _sites
from ezadmin_cmdb.describe import description as descriptions
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.enrolment import description as _enrolment_tokens
from ezadmin_cmdb.enrolment import models as _enrolment_models
from ezadmin_cmdb.filters import models as _filters
from ezadmin_cmdb.hosts import description as _host_description
from ezadmin_cmdb.hosts import drifts as _drifts
from ezadmin_cmdb.hosts import models as _hosts
from ezadmin_cmdb.jobs import models as _jobs
from ezadmin_cmdb.kafka_access import models as _kafka_users
from ezadmin_cmdb.limits import models as _limits
from ezadmin_cmdb.logsearch import models as _log_alert_models
from ezadmin_cmdb.maintenance import description as _maintenance
from ezadmin_cmdb.maintenance import models as _maintenance_models
from ezadmin_cmdb.maintenance import services as maintenance
from ezadmin_cmdb.notifications import description as _notifications
from ezadmin_cmdb.notifications import models as _notification_models
from ezadmin_cmdb.outbox import models as _outbox
from ezadmin_cmdb.rights import descriptions as _rights
from ezadmin_cmdb.rules import models as _rules
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.status.kafka import KafkaProbe
from ezadmin_cmdb.thresholds import description as _thresholds
from ezadmin_cmdb.web import formats, i18n
from ezadmin_cmdb.webhooks import description as _webhooks

MODELS = (
    _reminders,
    _accounts,
    _alert_models,
    _audit_models,
    _changes,
    _command_models,
    _config_models,
    _enrolment_models,
    _filters,
    _hosts,
    _jobs,
    _kafka_users,
    _limits,
    _log_alert_models,
    _maintenance_models,
    _notification_models,
    _outbox,
    _rules,
)
DESCRIBED = (
    _host_description,
    _drifts,
    _alerts,
    _maintenance,
    _thresholds,
    _commands,
    _configs,
    _sites,
    _rooms,
    _racks,
    _devices,
    _device_types,
    _contacts,
    _customers,
    _contracts,
    _users,
    _tokens,
    _enrolment_tokens,
    _custom,
    _rights,
    _change_records,
    _audit,
    _notifications,
    _webhooks,
)
"""All tables must be known before the first query, for their relations refer to one another; so must all descriptions.

The order is that of the menus.
"""


class Application(Flask):
    """Flask, with templates whose every value passes :func:`ezadmin_cmdb.web.formats.finalize`."""

    jinja_options: dict[str, Any] = {"finalize": formats.finalize, "trim_blocks": True, "lstrip_blocks": True}  # noqa: RUF012

    def log_exception(self, exc_info: Any) -> None:
        """Logged under the number that its user is told."""
        number = {"http.request.id": g.get("request_id")}
        self.logger.error("%s %s failed", request.method, request.path, exc_info=exc_info, extra={"fields": number})


def create_core(settings: Settings) -> Flask:
    """The application without pages: database, languages; connects to nothing yet."""
    for one in descriptions.known():
        if one.extensible and not hasattr(one.model, "tag_links"):
            custom.extend(one.model, one.name)
    app = Application("ezadmin_cmdb")
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = ENGINE_OPTIONS
    db.init_app(app)
    i18n.init_app(app)
    app.extensions["ezadmin_settings"] = settings
    return app


def create_app(settings: Settings) -> Flask:
    """The application with pages and API; connects to nothing yet. Raises SettingsError."""
    from ezadmin_cmdb.accounts import directory, provider
    from ezadmin_cmdb.accounts import views as account_views
    from ezadmin_cmdb.alerts import views as alert_views
    from ezadmin_cmdb.changes import views as change_views
    from ezadmin_cmdb.commands import views as command_views
    from ezadmin_cmdb.datacenter import views as datacenter_views
    from ezadmin_cmdb.describe import pages, scope
    from ezadmin_cmdb.enrolment import services as enrolment
    from ezadmin_cmdb.enrolment import views as enrolment_views
    from ezadmin_cmdb.filters import views as filter_views
    from ezadmin_cmdb.fleet import views as fleet_views
    from ezadmin_cmdb.graphs import views as graph_views
    from ezadmin_cmdb.hosts import views as host_views
    from ezadmin_cmdb.logsearch import alert_views as log_alert_views
    from ezadmin_cmdb.logsearch import views as log_views
    from ezadmin_cmdb.notifications import views as notification_views
    from ezadmin_cmdb.rights import views as group_views
    from ezadmin_cmdb.search import views as search_views
    from ezadmin_cmdb.status import views as status_views
    from ezadmin_cmdb.thresholds import starters
    from ezadmin_cmdb.thresholds import views as threshold_views
    from ezadmin_cmdb.web import access, api, apidocs, assets, errors, menus, requests, signin
    from ezadmin_cmdb.webhooks import views as webhook_views

    app = create_core(settings)
    app.config.update(
        SECRET_KEY=settings.secret_key(),
        SESSION_COOKIE_NAME="__Host-ezadmin" if settings.web.https else "ezadmin",
        SESSION_COOKIE_SECURE=settings.web.https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=accounts.SESSION_LIFE,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a page left open over night still works
        WTF_CSRF_SSL_STRICT=False,  # where the request comes from is checked by Sec-Fetch-Site and Origin
        MAX_CONTENT_LENGTH=1 << 20,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(hours=1),
    )
    if settings.web.url is not None:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    app.extensions["ezadmin_elastic"] = Elastic(settings.elasticsearch)
    app.extensions["ezadmin_kafka"] = KafkaProbe(settings.kafka)
    if settings.ldap is not None:
        directory.check_installed()
    for part in (requests, signin, errors, api, provider):
        part.init_app(app)
    for blueprint in (
        status_views.bp,
        search_views.bp,
        host_views.bp,
        host_views.drifts,
        change_views.bp,
        account_views.bp,
        account_views.users,
    ):
        app.register_blueprint(blueprint)
    app.register_blueprint(alert_views.bp)
    app.register_blueprint(command_views.bp)
    app.register_blueprint(enrolment_views.bp)
    app.register_blueprint(enrolment_views.quarantine)
    app.register_blueprint(filter_views.bp)
    app.register_blueprint(fleet_views.bp)
    app.register_blueprint(graph_views.bp)
    app.register_blueprint(log_views.bp)
    app.register_blueprint(log_alert_views.bp)
    app.register_blueprint(group_views.bp)
    app.register_blueprint(threshold_views.bp)
    app.register_blueprint(threshold_views.of_hosts)
    app.register_blueprint(datacenter_views.bp)
    app.register_blueprint(datacenter_views.reminders)
    datacenter_views.init_app(app)
    app.register_blueprint(apidocs.bp)
    app.register_blueprint(webhook_views.webhooks)
    app.register_blueprint(webhook_views.deliveries)
    app.register_blueprint(notification_views.channels)
    app.register_blueprint(notification_views.notifications)
    for description in descriptions.known():
        if description.path not in app.blueprints:
            app.register_blueprint(pages.blueprint(description))
    access.check_routes(app)
    app.jinja_env.globals.update(
        vendored=assets.vendored,
        icon=assets.icon,
        languages=accounts.LANGUAGES,
        current_user=signin.current_user,
        current_language=i18n.locale,
        menus=menus.shown,
        seen=lambda field, obj: scope.seen(signin.current_actor(), field, obj),
        enrolment_of=enrolment.about,
        commands_of=command_views.on_a_hosts_page,
        commands_sendable=command_views.sendable,
        configs_differing=command_views.differing,
        locked_until=guards.locked_until,
        starters_missing=starters.missing,
        window_preview=lambda window: maintenance.preview(signin.current_actor(), window),
        has_second_factor=second_factor.is_on,
        sessions_of=accounts.sessions_of,
        described=descriptions.find,
        described_or_none=descriptions.find_or_none,
        endpoints=lambda: app.view_functions,
        may=menus.may,
        grafana_url=settings.grafana_url,
    )
    for writer in (
        formats.ago, formats.duration, formats.figure, formats.moment, formats.number, formats.ratio, formats.size,
    ):  # fmt: skip
        app.jinja_env.filters[writer.__name__] = writer
    return app
