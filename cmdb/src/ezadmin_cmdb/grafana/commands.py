"""``ezadmin-cmdb grafana``: bring the dashboards to a Grafana, and look whether they work there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ezadmin_cmdb.grafana import provisioning
from ezadmin_cmdb.grafana.server import Account, Server
from ezadmin_wire.names import Names


@click.group("grafana")
def grafana_commands() -> None:
    """Dashboards on an existing Grafana (9.4 to 12)."""


def _server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--url", required=True, envvar="GRAFANA_URL", show_envvar=True, help="Grafana's address."),
            click.option(
                "--token",
                envvar="GRAFANA_TOKEN",
                show_envvar=True,
                help="Token of a service account with the role Admin.",
            ),
            click.option(
                "--user", envvar="GRAFANA_USER", show_envvar=True, help="A user with the role Admin, without token."
            ),
            click.option(
                "--password", envvar="GRAFANA_PASSWORD", show_envvar=True, help="The user's password; else asked for."
            ),
        )
    ):
        function = option(function)
    return function


def _target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option(
                "--elasticsearch-url",
                required=True,
                envvar="EZADMIN_ELASTICSEARCH_URL",
                show_envvar=True,
                help="Elasticsearch as Grafana's server reaches it.",
            ),
            click.option(
                "--elasticsearch-user",
                envvar="EZADMIN_ELASTICSEARCH_USER",
                show_envvar=True,
                help="User that may read the indices, if Elasticsearch asks for one.",
            ),
            click.option(
                "--elasticsearch-password",
                envvar="EZADMIN_ELASTICSEARCH_PASSWORD",
                show_envvar=True,
                help="That user's password; else asked for.",
            ),
            click.option(
                "--elasticsearch-ca-file",
                envvar="EZADMIN_ELASTICSEARCH_CA_FILE",
                show_envvar=True,
                type=click.Path(path_type=Path, dir_okay=False),
                help="PEM file of the authority that signed Elasticsearch's certificate, if Grafana's machine does not know it.",
            ),
            click.option(
                "--web-url",
                required=True,
                envvar="EZADMIN_URL",
                show_envvar=True,
                help="ezadmin's web application as browsers reach it, for links to host pages.",
            ),
            click.option(
                "--prefix", default="ezadmin", show_default=True, help="The installation's prefix of index names."
            ),
        )
    ):
        function = option(function)
    return function


@grafana_commands.command("push")
@_server_options
@_target_options
def _push(
    url: str,
    token: str | None,
    user: str | None,
    password: str | None,
    elasticsearch_url: str,
    elasticsearch_user: str | None,
    elasticsearch_password: str | None,
    elasticsearch_ca_file: Path | None,
    web_url: str,
    prefix: str,
) -> None:
    """Make or bring up to date folder, data sources and dashboards. Again: nothing changes."""
    server = Server(url, _credential(token, user, password))
    account = _account("Elasticsearch", elasticsearch_user, elasticsearch_password)
    for line in server.push(Names(prefix), elasticsearch_url, web_url, account, _authority(elasticsearch_ca_file)):
        click.echo(line)


@grafana_commands.command("check")
@_server_options
def _check(url: str, token: str | None, user: str | None, password: str | None) -> int:
    """Look whether Grafana can show the dashboards; exit status 1 if something is wrong."""
    findings = list(Server(url, _credential(token, user, password)).check())
    for finding in findings:
        click.echo(f"{'ok   ' if finding.good else 'WRONG'} {finding.text}")
    return 0 if all(finding.good for finding in findings) else 1


@grafana_commands.command("provision")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Grafana's provisioning folder."
)
@click.option("--alert-rules", is_flag=True, help="Also the example alert rules, which Grafana then evaluates.")
@_target_options
def _provision(
    out: Path,
    alert_rules: bool,
    elasticsearch_url: str,
    elasticsearch_user: str | None,
    elasticsearch_password: str | None,
    elasticsearch_ca_file: Path | None,
    web_url: str,
    prefix: str,
) -> None:
    """Write Grafana's provisioning files, for a server that reads them at its start."""
    account = _account("Elasticsearch", elasticsearch_user, elasticsearch_password)
    user, password = (account.user, account.password) if account else (None, None)
    ca = _authority(elasticsearch_ca_file)
    try:
        provisioning.write(out, Names(prefix), elasticsearch_url, web_url, user, password, ca, alert_rules)
    except OSError as error:
        raise click.ClickException(f"cannot write below {out}: {error.strerror}") from error
    click.echo(f"wrote {out}: datasources, dashboards, json; start Grafana with GF_PATHS_PROVISIONING={out.resolve()}")


def _credential(token: str | None, user: str | None, password: str | None) -> str | Account:
    if token:
        return token
    account = _account("Grafana", user, password)
    if account is None:
        raise click.UsageError(
            "give --token, or --user and --password (or GRAFANA_TOKEN, GRAFANA_USER, GRAFANA_PASSWORD)"
        )
    return account


def _authority(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"cannot read {path}: {error}", param_hint="--elasticsearch-ca-file") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise click.BadParameter(f"{path} holds no certificate in PEM", param_hint="--elasticsearch-ca-file")
    return text


def _account(where: str, user: str | None, password: str | None) -> Account | None:
    if not user:
        return None
    return Account(user, click.prompt(f"{where} password of {user}", hide_input=True) if password is None else password)
