"""Pages and API of enrolment: tokens that are shown once, hosts that wait for a person."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.enrolment import services as enrolment
from ezadmin_cmdb.enrolment import tokens
from ezadmin_cmdb.enrolment.models import EnrolmentToken, HostLine
from ezadmin_cmdb.errors import Conflict, Forbidden, Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.settings import CommandSettings, Gateway
from ezadmin_wire.enrolment import EnrolRequest, Fingerprint, clone_proof, read_token
from ezadmin_wire.signing import SigningKey

COMMAND_KEY = SigningKey.generate().public.hex()
URL = "https://gateway.example:8443"


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("web")
    more = {"gateway": Gateway(url=URL), "commands": CommandSettings(public_key=COMMAND_KEY)}
    with application(database, folder, **more) as app:
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "admin", PASSWORD, admin=True)
        yield app


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return sign_in(app, "admin")


def shown(text: str) -> str:
    """The token on a page."""
    found = re.search(r'id="token">([^<]+)<', text)
    assert found is not None, text
    return found[1]


def test_a_token_is_shown_once(app: Flask, browser: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        site, group = Site(name="Busan"), HostGroup(name="db")
        db.session.add_all([site, group])
        db.session.flush()
        ids = site.id, group.id
    name = f"for {secrets.token_hex(4)}"
    form = {"csrf_token": csrf(browser), "name": name, "hours": "2", "uses_max": "7", "site": ids[0], "group": ids[1]}
    page = browser.post("/enrolment-tokens/new", data={**form, "quarantine": "true"})
    assert page.status_code == 200, page.text
    token = read_token(shown(page.text))
    assert (token.url, token.command_key, token.ca) == (URL, COMMAND_KEY, None)
    assert "There is nothing to install from yet." in page.text
    assert token.secret not in browser.get("/enrolment-tokens/").text
    with app.app_context():
        made = db.session.scalars(select(EnrolmentToken).where(EnrolmentToken.name == name)).one()
        assert made.secret_hash == tokens.digest(token.secret)
        assert (made.uses_max, made.quarantine, made.replace, made.site_id, made.group_id) == (7, True, False, *ids)
        assert 1.9 < (made.expires - utc_now()).total_seconds() / 3600 <= 2
        change = db.session.scalars(select(Change).where(Change.object_type == "enrolment_token")).all()[-1]
        assert token.secret not in str(change.fields)
        assert made.secret_hash not in str(change.fields)
        number = made.id
    assert "Busan" in browser.get(f"/enrolment-tokens/{number}").text
    browser.post(f"/enrolment-tokens/{number}/revoke", data={"csrf_token": csrf(browser)})
    assert "Revoked" in browser.get(f"/enrolment-tokens/{number}").text


def test_the_form_says_what_is_wrong(app: Flask, browser: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        group = HostGroup(name=f"found {secrets.token_hex(3)}", filter="name=web")
        db.session.add(group)
        db.session.flush()
        number = group.id
    form = {"csrf_token": csrf(browser), "name": "x", "hours": "x", "uses_max": "0", "group": str(number)}
    page = browser.post("/enrolment-tokens/new", data=form)
    assert page.status_code == 422
    assert "Write a whole number." in page.text
    page = browser.post("/enrolment-tokens/new", data={**form, "hours": "99999"})
    for text in ("1 to 2160 hours", "1 to 10000 hosts", "holds what its filter finds"):
        assert text in page.text
    browser.post("/language/ko", data={"csrf_token": csrf(browser)})
    assert "등록 토큰" in browser.get("/enrolment-tokens/new").text
    browser.post("/language/en", data={"csrf_token": csrf(browser)})


def test_by_the_api(browser: FlaskClient) -> None:
    headers = {"X-CSRFToken": csrf(browser)}
    answer = browser.post("/api/v1/enrolment-tokens", json={"name": "api", "uses_max": 3}, headers=headers)
    assert answer.status_code == 201, answer.text
    made = answer.get_json()
    assert read_token(made["token"]).url == URL
    assert made["command"] is None
    assert "files" in made["missing"]
    assert browser.get(f"/api/v1/enrolment-tokens/{made['id']}").get_json()["uses_max"] == 3
    assert browser.post(f"/api/v1/enrolment-tokens/{made['id']}/revoke", headers=headers).status_code == 204
    wrong = browser.post("/api/v1/enrolment-tokens", json={"name": "api", "secret": "x"}, headers=headers)
    assert wrong.status_code == 422


def test_replacing_takes_the_right_to_change_hosts(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        user = accounts.create_user(KIM, f"u{secrets.token_hex(3)}", PASSWORD, admin=False)
        mine, other = HostGroup(name=f"mine {secrets.token_hex(3)}"), HostGroup(name=f"other {secrets.token_hex(3)}")
        db.session.add_all([mine, other])
        db.session.flush()
        for names, group in ((["enrolment_token.change"], None), (["host.change", "host.view"], mine)):
            role = services.create(KIM, find("role"), {"name": f"r{secrets.token_hex(3)}", "permissions": names})
            services.create(KIM, find("grant"), {"user": user, "role": role, "group": group})
        from ezadmin_cmdb.actor import Actor

        actor = Actor(user.name, "ui", rights_of(user), user_id=user.id)
        assert tokens.create(actor, "plain").token.replace is False
        assert tokens.create(actor, "within", replace=True, group=mine).token.replace is True
        for options in ({}, {"group": other}):
            with pytest.raises(Forbidden):
                tokens.create(actor, "beyond", replace=True, **options)


def test_without_settings_there_is_a_word_on_what_to_set(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    settings = app.extensions["ezadmin_settings"]
    with app.app_context():
        for part, text in (
            ({"gateway": Gateway()}, r"\[gateway\]"),
            ({"commands": CommandSettings()}, r"\[commands\]"),
        ):
            monkeypatch.setitem(app.extensions, "ezadmin_settings", replace(settings, **part))
            with pytest.raises(Conflict, match=text):
                tokens.create(KIM, "x")
        broken: dict[str, Any] = {"gateway": Gateway(url=URL, ca_file=Path("/none"))}
        monkeypatch.setitem(app.extensions, "ezadmin_settings", replace(settings, **broken))
        with pytest.raises(Conflict, match="ca_file"):
            tokens.create(KIM, "x")
        db.session.rollback()


def known(app: Flask, key: SigningKey, host_id: str, **options: Any) -> enrolment.Known:
    """A host that came with a token."""
    with app.app_context(), unit_of_work():
        secret = read_token(tokens.create(KIM, "t", **options).text).secret
        print_ = Fingerprint(secrets.token_hex(32), secrets.token_hex(32))
        request = EnrolRequest(host_id, key.public.hex(), f"h{host_id[:4]}", "0.6", print_, secret=secret)
        return enrolment.enrol(request, "192.0.2.7")


def test_the_page_of_a_host_says_how_it_came_and_what_to_decide(app: Flask, browser: FlaskClient) -> None:
    import uuid

    key, copy_key = SigningKey.generate(), SigningKey.generate()
    original, copy = str(uuid.uuid4()), str(uuid.uuid4())
    known(app, key, original)
    with app.app_context(), unit_of_work():
        proof = clone_proof(key, original, copy, copy_key.public.hex())
        request = EnrolRequest(copy, copy_key.public.hex(), "copy", "0.6", Fingerprint(), clone=proof)
        assert enrolment.enrol(request, "192.0.2.8").state == "quarantined"
        db.session.add(
            HostLine(host_id=original, twins={"since": "x", "time": "y", "addresses": ["192.0.2.7", "192.0.2.9"]})
        )
    page = browser.get(f"/hosts/{original}").text
    assert "Two machines use the identity of this host." in page
    assert "192.0.2.9" in page
    assert f'href="/hosts/{copy}"' in page, "its copy"
    page = browser.get(f"/hosts/{copy}").text
    assert "This host is in quarantine." in page
    assert f'href="/hosts/{original}"' in page
    guard = {"csrf_token": csrf(browser)}
    browser.post(f"/hosts/{original}/twins", data=guard)
    assert "Two machines" not in browser.get(f"/hosts/{original}").text
    browser.post(f"/hosts/{copy}/accept", data=guard)
    assert "in quarantine" not in browser.get(f"/hosts/{copy}").text.split("<main", 1)[-1].split("Quarantined", 1)[0]
    late = browser.post(f"/hosts/{copy}/reject", data=guard, follow_redirects=True)
    assert "is not in quarantine" in late.text
    with app.app_context():
        assert hosts.find(KIM, copy).state == "active"


def test_a_site_that_is_deleted_takes_its_tokens_along(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        site = Site(name=f"s{secrets.token_hex(3)}")
        db.session.add(site)
        db.session.flush()
        number = tokens.create(KIM, "of a site", site=site).token.id
        services.delete(KIM, find("site"), site)
        db.session.expire_all()
        assert db.session.get(EnrolmentToken, number) is None


def test_a_deleted_host_may_come_again_with_its_key(app: Flask) -> None:
    import uuid

    key, host_id = SigningKey.generate(), str(uuid.uuid4())
    known(app, key, host_id)
    with app.app_context(), unit_of_work():
        services.delete(KIM, find("host"), db.session.get_one(find("host").model, host_id))
    assert known(app, key, host_id).host_id == host_id


def test_texts_that_are_none_are_refused(app: Flask) -> None:
    with app.app_context(), pytest.raises(Invalid):
        tokens.create(KIM, "x", hours=0, uses=0)
    with pytest.raises(ValueError, match="PEM"):
        tokens.pin(Path(__file__))
