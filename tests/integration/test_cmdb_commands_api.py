"""Commands by the API and from a shell: the same services, the same refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import settings_file
from ezadmin_testing.commands import signer
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.configs.description import CONFIG
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.main import main
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_wire.names import Names


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandSettings]:
    with signer(tmp_path_factory.mktemp("signer")) as settings:
        yield settings


@pytest.fixture(scope="module")
def module_app(database: str, signing: CommandSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web"), commands=signing) as app:
        yield app


@pytest.fixture
def client(module_app: Flask) -> FlaskClient:
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        for n in (1, 2, 3):
            make("host", n)
    return sign_in(module_app, "kim")


def call(client: FlaskClient, path: str, status: int = 200, **body: Any) -> Any:
    guard = {"X-CSRFToken": csrf(client)}
    answer = (
        client.post(f"/api/v1{path}", json=body, headers=guard)
        if body or path.endswith("cancel")
        else client.get(f"/api/v1{path}")
    )
    assert answer.status_code == status, answer.text
    return answer.json


def test_by_the_api(client: FlaskClient, module_app: Flask) -> None:
    call(client, "/commands", 428, kind="inventory", filter="")
    call(client, "/commands", 409, kind="inventory", filter="", expected=2)
    call(client, "/commands", 422, kind="shell", ids=[host_id(1)])
    call(client, "/commands", 422, kind="sample", ids=[host_id(1)], arguments={"interval": "1", "seconds": 60})
    call(client, "/commands", 422, kind="inventory")
    call(client, "/commands", 404, kind="inventory", ids=["00000000-0000-4000-8000-00000000ffff"])
    seen = call(client, "/commands/preview", kind="inventory", filter="name=Host 2")
    assert (seen["count"], seen["hosts"], seen["deaf"]) == (1, [{"id": host_id(2), "name": "Host 2"}], [])
    sent = call(
        client, "/commands", 201, kind="sample", ids=[host_id(1), host_id(2)], arguments={"seconds": 60}, expires=900
    )
    assert (sent["kind"], sent["hosts"]) == ("sample", 2)
    found = call(client, f"/commands/{sent['id']}/hosts")
    assert [(one["host_name"], one["state"], one["attempt"], one["source"]) for one in found] == [
        ("Host 1", "queued", 1, "cmdb"), ("Host 2", "queued", 1, "cmdb"),
    ]  # fmt: skip
    assert call(client, f"/commands/{sent['id']}")["arguments"] == {"interval": 1, "seconds": 60}
    with module_app.app_context(), unit_of_work():
        db.session.execute(update(Command).where(Command.host_id == host_id(1)).values(state="failed", source="agent"))
    assert call(client, f"/commands/{sent['id']}/cancel") == {"count": 1}
    call(client, f"/commands/{sent['id']}/again", 409, expected=2)
    assert call(client, f"/commands/{sent['id']}/again", expected=1) == {"count": 1}
    assert [one["attempt"] for one in call(client, f"/hosts/{host_id(1)}/commands")] == [2, 1]
    assert [one["id"] for one in call(client, "/commands?host=Host%201")["items"]] == [sent["id"]]
    assert call(client, "/commands?host=Host%203")["items"] == []
    assert [one["id"] for one in call(client, "/commands?state=cancelled&actor_name=kim")["items"]] == [sent["id"]]


def test_the_configuration_by_the_api(client: FlaskClient, module_app: Flask) -> None:
    with module_app.app_context(), unit_of_work():
        content = '[[logs]]\npath = "/a"\nsample = 3'
        described.create(KIM, CONFIG, {"name": "all", "priority": 1, "active": True, "content": content})
    found = call(client, f"/hosts/{host_id(1)}/configuration")
    assert found["applied"] == 0 != found["wanted"]
    assert {"source": "/a", "key": "sample", "value": 3, "origin": "all"} in found["parts"]
    assert "+sample = 3" in found["difference"]
    agents = call(client, "/agents?agent_config_state=differs")
    assert [(one["name"], one["agent_config_wanted"]) for one in agents["items"]] == [
        (f"Host {n}", found["wanted"]) for n in (1, 2, 3)
    ]
    assert call(client, "/agents?agent_config_state=same")["items"] == []
    call(client, "/agent-configs", 422, name="bad", priority=0, content="[kafka]")


def test_from_a_shell(
    client: FlaskClient, module_app: Flask, database: str, signing: CommandSettings, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines = f'signer_socket = "{signing.signer_socket}"\npublic_key = "{signing.public_key}"'
    config = str(settings_file(tmp_path, database, "127.0.0.1:1", Names("t"), commands=lines))

    def run(*words: str, status: int = 0) -> tuple[str, str]:
        assert main(["command", *words, "--config", config]) == status
        told = capsys.readouterr()
        return told.out, told.err

    assert "no commands yet" in run("list")[1]
    assert run("send", "inventory", "--filter", "q=", "--dry-run")[0].count("Host") == 3
    assert "Say how many hosts" in run("send", "inventory", "--filter", "q=", status=1)[1]
    assert "no host web9" in run("send", "inventory", "web9", status=1)[1]
    told = run("send", "stop", "Host 1", host_id(2), "--argument", "reason=a break-in", "--expires", "600")[0]
    run_id = told.split()[0]
    assert re.fullmatch(r"[0-9a-f-]{36}  stop for 2 hosts\n", told)
    assert f"{run_id}  " in run("list")[0]
    shown = json.loads(run("show", run_id, "--json", status=1)[0])
    assert [(one["host_name"], one["state"]) for one in shown] == [("Host 1", "queued"), ("Host 2", "queued")]
    assert run("cancel", run_id)[0] == "cancelled for 2 hosts\n"
    assert "cancelled" in run("show", run_id, status=3)[0]
    assert "no host to which" in run("again", run_id, status=1)[1]
    assert "4 rows hold" in run("verify")[0]
    with module_app.app_context(), unit_of_work():
        assert db.session.scalars(select(Command.actor_name)).first()
        db.session.execute(update(Command).values(signed="{}"))
    assert "row 1 holds, but command" in run("verify", status=1)[1]
