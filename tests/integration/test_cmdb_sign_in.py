"""Signing in by page and API on the real database: tokens, lock-out, sessions, passwords, the second factor."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
from click.testing import CliRunner
from ezadmin_testing.cmdb import settings_file
from ezadmin_testing.described import KIM, PASSWORD, csrf, empty, make, sign_in, token
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text, update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import guards, second_factor
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import ApiToken, SignInGuard, User, UserSession
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.main import cli
from ezadmin_cmdb.settings import ElasticConnection, KafkaConnection, Settings, SettingsError, SignIn, parse
from ezadmin_wire.names import Names


@pytest.fixture(scope="module")
def settings(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        database=database, kafka=KafkaConnection(stack.kafka), config_signing_key=Path("none"),
        names=Names(f"t{secrets.token_hex(5)}"), elasticsearch=ElasticConnection((stack.elasticsearch,)),
        secret_key_file=tmp_path_factory.mktemp("web") / "secret",
    )  # fmt: skip


@pytest.fixture(scope="module")
def apps(settings: Settings) -> Iterator[dict[str, Flask]]:
    """The application, and one that requires a second factor of administrators."""
    made = {"usual": create_app(settings), "strict": create_app(replace(settings, sign_in=SignIn("admins")))}
    with made["usual"].app_context():
        migrate.upgrade(db.engine)
    for app in made.values():
        app.testing = True
    yield made
    for app in made.values():
        app.extensions["ezadmin_elastic"].close()
        app.extensions["ezadmin_kafka"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(apps: dict[str, Flask]) -> Flask:
    """Emptied, with the administrator root and lee, who may see sites, contacts and hosts."""
    app = apps["usual"]
    empty(app)
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "root", PASSWORD, admin=True)
        lee = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
        role = services.create(
            KIM, find("role"), {"name": "r", "permissions": ["site.view", "contact.change", "host.view"]}
        )
        services.create(KIM, find("grant"), {"user": lee, "role": role})
        make("site", 1)
    return app


def noted(app: Flask, kind: str = "sign_in") -> list[tuple[str, str, str]]:
    with app.app_context():
        found = db.session.scalars(select(AuditEntry).where(AuditEntry.kind == kind).order_by(AuditEntry.id))
        return [(one.action, one.outcome, one.actor) for one in found]


def try_to_sign_in(app: Flask, name: str, password: str, address: str = "192.0.2.1") -> tuple[FlaskClient, Any]:
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    form = {"name": name, "password": password, "csrf_token": token(client.get("/sign-in").text)}
    return client, client.post("/sign-in", data=form)


# -- tokens ---


def make_token(client: FlaskClient, status: int = 200, **form: Any) -> str:
    given = {
        "name": "script",
        "scopes": ["site.view", "contact.change"],
        "days": "30",
        "csrf_token": csrf(client),
        **form,
    }
    answer = client.post("/account/tokens", data=given)
    assert answer.status_code == status
    found = re.search(r'id="token">(ezt_[^<]+)<', answer.text)
    return found[1] if found else answer.text


def ask(app: Flask, bearer: str, path: str, method: str = "GET", address: str = "192.0.2.1", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {bearer}"}
    return app.test_client().open(path, method=method, headers=headers, environ_base={"REMOTE_ADDR": address}, **more)


def test_a_token_may_what_was_chosen_and_never_more_than_its_user_now(app: Flask) -> None:
    client = sign_in(app, "lee")
    bearer = make_token(client)
    assert bearer not in client.get("/account/tokens").text
    assert ask(app, bearer, "/api/v1/sites").get_json()["total"] == 1
    made = ask(app, bearer, "/api/v1/contacts", "POST", json={"name": "by token", "kind": "person"})
    assert made.status_code == 201, "no token against forged requests is asked for"
    assert ask(app, bearer, "/api/v1/hosts").status_code == 403, "was not chosen, though its user may"
    assert ask(app, bearer, "/sites/").status_code == 302, "pages know no tokens"
    with app.app_context():
        (change,) = db.session.scalars(select(AuditEntry).where(AuditEntry.object_name == "by token"))
        assert (change.actor, change.source, change.address) == ("lee", "api", "192.0.2.1")
        assert '"token":"script"' in change.details
        (denial,) = db.session.scalars(select(AuditEntry).where(AuditEntry.kind == "denial"))
        assert denial.action == "host.view"
        assert '"token":"script"' in denial.details
        used = db.session.scalars(select(ApiToken)).one()
        assert used.last_used is not None
        assert used.last_address == "192.0.2.1"
        assert bearer not in used.token_hash
        assert used.hint == bearer[:8]
    with app.app_context(), unit_of_work():
        db.session.execute(text("DELETE FROM grants"))
    assert ask(app, bearer, "/api/v1/sites").status_code == 403
    with app.app_context(), unit_of_work():
        db.session.execute(update(User).where(User.name == "lee").values(active=False))
    assert ask(app, bearer, "/api/v1/sites").status_code == 401


def test_a_token_of_an_administrator_administers_nothing_that_was_not_chosen(app: Flask) -> None:
    bearer = make_token(sign_in(app, "root"), scopes=["user.change", "site.view"])
    with app.app_context():
        lee = accounts.find_user("lee").id
    assert ask(app, bearer, f"/api/v1/users/{lee}", "PATCH", json={"admin": True}).status_code == 403
    assert ask(app, bearer, f"/api/v1/users/{lee}", "PATCH", json={"language": "ko"}).status_code == 200
    new = {"name": "more", "scopes": ["site.view"]}
    assert ask(app, bearer, "/api/v1/account/tokens", "POST", json=new).status_code == 403, "a token makes no token"


def test_what_is_no_good_token(app: Flask) -> None:
    client = sign_in(app, "lee")
    bearer = make_token(client, networks="192.0.2.0/25 2001:db8::/32")
    for address, status in [
        ("192.0.2.1", 200),
        ("192.0.2.200", 401),
        ("2001:db8::9", 200),
        ("::ffff:192.0.2.1", 200),
        ("2001:db9::1", 401),
    ]:
        assert ask(app, bearer, "/api/v1/sites", address=address).status_code == status, address
    refused = ask(app, "ezt_" + "x" * 43, "/api/v1/sites")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    with app.app_context(), unit_of_work():
        db.session.execute(update(ApiToken).values(expires=utc_now() - timedelta(seconds=1)))
    assert ask(app, bearer, "/api/v1/sites").status_code == 401
    assert noted(app).count(("token", "failure", "lee")) == 1, "a program that goes on trying does not fill the log"
    wrong = make_token(client, 422, name="", scopes=["user.view"], days="9999", networks="nonsense")
    for said in ("1 to 64", "not among the permissions", "1 to 366 days", "nonsense is no network"):
        assert said in wrong
    assert "Choose what" in make_token(client, 422, scopes=[])


def test_a_cookie_is_not_excused_from_the_token_against_forged_requests_by_a_header(app: Flask) -> None:
    client = sign_in(app, "lee")
    for header in ("Bearer nonsense", "Bearer ", "bearer x", "Basic bGVlOng="):
        answer = client.post(
            "/api/v1/contacts", json={"name": "x", "kind": "person"}, headers={"Authorization": header}
        )
        assert answer.status_code in (400, 401), header
    assert client.post("/api/v1/contacts", json={"name": "x", "kind": "person"}).status_code == 400
    assert client.post("/account/tokens", data={"name": "x", "scopes": "site.view", "days": "1"}).status_code == 400
    bearer = make_token(client)
    mixed = client.get("/api/v1/hosts", headers={"Authorization": f"Bearer {bearer}"})
    assert mixed.status_code == 403, "with both, the token counts"


def test_tokens_are_revoked_by_their_user_and_by_an_administrator(app: Flask) -> None:
    lee, root = sign_in(app, "lee"), sign_in(app, "root")
    first, second = make_token(lee), make_token(lee, name="second")
    with app.app_context():
        ids = list(db.session.scalars(select(ApiToken.id).order_by(ApiToken.id)))
    assert root.post(f"/account/tokens/{ids[0]}/revoke", data={"csrf_token": csrf(root)}).status_code == 404
    assert lee.post(f"/account/tokens/{ids[0]}/revoke", data={"csrf_token": csrf(lee)}).status_code == 302
    assert ask(app, first, "/api/v1/sites").status_code == 401
    assert lee.get("/api/v1/tokens").status_code == 403
    assert [one["name"] for one in root.get("/api/v1/tokens").get_json()["items"]] == ["second"]
    assert "second" in root.get("/tokens/").text
    assert root.delete(f"/api/v1/tokens/{ids[1]}", headers={"X-CSRFToken": csrf(root)}).status_code == 204
    assert ask(app, second, "/api/v1/sites").status_code == 401


def test_tokens_by_api_and_command(app: Flask, stack: Any, database: str, tmp_path: Path) -> None:
    lee = sign_in(app, "lee")
    new = {"name": "by api", "scopes": ["site.view"], "networks": ["192.0.2.0/24"]}
    made = lee.post("/api/v1/account/tokens", json=new, headers={"X-CSRFToken": csrf(lee)})
    assert made.status_code == 201
    assert ask(app, made.get_json()["token"], "/api/v1/sites").status_code == 200
    (listed,) = ask(app, made.get_json()["token"], "/api/v1/account/tokens").get_json()
    assert listed["name"] == "by api"
    assert "token" not in listed
    assert "token_hash" not in listed
    config = settings_file(tmp_path, database, stack.kafka, Names(f"t{secrets.token_hex(5)}"))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, [*arguments, "--config", str(config)], standalone_mode=False)

    bearer = run("token", "create", "--user", "lee", "--name", "by command", "--scope", "site.view").stdout.strip()
    assert ask(app, bearer, "/api/v1/sites").status_code == 200
    line = next(one for one in run("token", "list").stdout.splitlines() if "by command" in one)
    assert "last used" in line
    assert "is revoked" in run("token", "revoke", line.split()[0]).stdout
    assert ask(app, bearer, "/api/v1/sites").status_code == 401


# -- lock-out, sessions, passwords ---


def test_failures_lock_out_ever_longer_and_success_forgets(app: Flask) -> None:
    for _ in range(guards.FAILURES_BY_PAIR):
        assert try_to_sign_in(app, "lee", "wrong")[1].status_code == 401
    answer = try_to_sign_in(app, "LEE ", PASSWORD)[1]
    assert answer.status_code == 429
    assert "1 minutes" in answer.text
    assert try_to_sign_in(app, "lee", PASSWORD, "198.51.100.7")[1].status_code == 302, (
        "from elsewhere the user can sign in"
    )
    waits = []
    for _ in range(3):
        with app.app_context(), unit_of_work():
            waits.append(max(filter(None, db.session.scalars(select(SignInGuard.until)))) - utc_now())
            db.session.execute(update(SignInGuard).values(until=None))
        assert try_to_sign_in(app, "lee", "wrong")[1].status_code == 401
    assert waits[0] < waits[1] < waits[2] <= guards.LONGEST_DELAY
    assert noted(app).count(("locked", "failure", "lee")) == 4
    assert guards.delay(0) == timedelta(seconds=30)
    assert guards.delay(99) == timedelta(hours=1)


def test_attempts_made_at_once_are_all_counted(app: Flask) -> None:
    found: list[int] = []
    clients = []
    for _ in range(12):
        client = app.test_client()
        clients.append((client, token(client.get("/sign-in").text)))

    def attempt(client: FlaskClient, guard: str) -> None:
        form = {"name": "lee", "password": "wrong", "csrf_token": guard}
        found.append(client.post("/sign-in", data=form).status_code)

    running = [threading.Thread(target=attempt, args=one) for one in clients]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert sorted(found) == [401] * guards.FAILURES_BY_PAIR + [429] * (12 - guards.FAILURES_BY_PAIR)


def test_nothing_tells_whether_there_is_such_a_user(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(name: str, address: str) -> list[tuple[int, str]]:
        found = []
        for _ in range(guards.FAILURES_BY_PAIR + 1):
            answer = try_to_sign_in(app, name, "wrong", address)[1]
            found.append((answer.status_code, re.sub(r'value="[^"]*"', "", answer.text)))
        return found

    assert answers("lee", "192.0.2.21") == answers("nobody", "192.0.2.22")
    assert ("password", "failure", "?") in noted(app), "what was typed as a name may be a password"

    from argon2 import PasswordHasher

    slow = PasswordHasher()
    monkeypatch.setattr(accounts, "_hasher", slow)
    monkeypatch.setattr(accounts, "_NOBODY", slow.hash("x"))
    with app.app_context(), unit_of_work():
        db.session.execute(update(User).where(User.name == "lee").values(password_hash=slow.hash(PASSWORD)))
        db.session.execute(update(User).where(User.name == "root").values(active=False))

    def seconds(name: str) -> float:
        taken = []
        for number in range(9):
            began = time.perf_counter()
            try_to_sign_in(app, name, "wrong", f"192.0.2.{100 + number}")
            taken.append(time.perf_counter() - began)
        return min(taken)  # what other work on the machine adds is left out

    known, unknown, inactive = seconds("lee"), seconds("nobody2"), seconds("root")
    assert 0.5 < known / unknown < 2
    assert 0.5 < inactive / unknown < 2


def test_unlock_by_an_administrator_and_by_command(app: Flask, stack: Any, database: str, tmp_path: Path) -> None:
    def lock() -> None:
        for _ in range(guards.FAILURES_BY_PAIR):
            try_to_sign_in(app, "lee", "wrong")
        assert try_to_sign_in(app, "lee", PASSWORD)[1].status_code == 429

    root = sign_in(app, "root")
    with app.app_context():
        lee = accounts.find_user("lee").id
    lock()
    assert "/unlock" in root.get(f"/users/{lee}").text
    assert root.post(f"/users/{lee}/unlock", data={"csrf_token": csrf(root)}).status_code == 302
    assert try_to_sign_in(app, "lee", PASSWORD)[1].status_code == 302
    assert "/unlock" not in root.get(f"/users/{lee}").text
    lock()
    config = settings_file(tmp_path, database, stack.kafka, Names(f"t{secrets.token_hex(5)}"))
    done = CliRunner().invoke(cli, ["user", "unlock", "lee", "--config", str(config)], standalone_mode=False)
    assert "unlocked: lee" in done.stdout
    assert try_to_sign_in(app, "lee", PASSWORD)[1].status_code == 302
    assert ("unlock", "success", "root") in noted(app, "account")


def test_a_session_of_before_signing_in_is_worth_nothing_after(app: Flask) -> None:
    client = sign_in(app, "lee")
    with client.session_transaction() as cookie:
        before = dict(cookie)
    victim = app.test_client()
    with victim.session_transaction() as cookie:  # somebody planted his own cookie in another's browser
        cookie.update(before | {"planted": "yes"})
    form = {"name": "root", "password": PASSWORD, "csrf_token": csrf(victim)}
    assert victim.post("/sign-in", data=form).status_code == 302
    with victim.session_transaction() as cookie:
        assert cookie["token"] != before["token"]
        assert "planted" not in cookie
    assert "lee" in client.get("/account").text
    assert "root" not in client.get("/account").text
    client.post("/sign-out", data={"csrf_token": csrf(client)})
    with client.session_transaction() as cookie:
        cookie.update(before)
    assert client.get("/account").status_code == 302, "a session that ended does not live again with its old cookie"


def test_sessions_are_listed_and_ended_elsewhere(app: Flask) -> None:
    first, second, third = (sign_in(app, "lee") for _ in range(3))
    other = sign_in(app, "root")
    page = first.get("/account").text
    handles = re.findall(r"/account/sessions/([0-9a-f]{16})/end", page)
    assert len(handles) == 2
    assert "this browser" in page
    assert other.post(f"/account/sessions/{handles[0]}/end", data={"csrf_token": csrf(other)}).status_code == 404
    assert first.post(f"/account/sessions/{handles[0]}/end", data={"csrf_token": csrf(first)}).status_code == 302
    assert sorted(one.get("/account").status_code for one in (first, second, third)) == [200, 200, 302]
    assert first.post("/account/sessions/others/end", data={"csrf_token": csrf(first)}).status_code == 302
    assert [one.get("/account").status_code for one in (first, second, third)] == [200, 302, 302]
    with app.app_context():
        lee = accounts.find_user("lee").id
    assert other.post(f"/users/{lee}/sessions", data={"csrf_token": csrf(other)}).status_code == 302
    assert first.get("/account").status_code == 302
    assert other.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("password", "good"),
    [
        ("short", False), ("password1234", False), ("qwertyuiop", False), ("1234567890123", False), ("jungwoojungwoo", False),
        ("jungwoo2026", False), ("aaaaaaaaaaaaaaaa", False),
        ("correct horse battery", True), ("마음에드는긴비밀번호", True), ("x" * 201, False),
    ],
)  # fmt: skip
def test_passwords_that_are_guessed_are_refused(app: Flask, password: str, good: bool) -> None:
    with app.app_context():
        if good:
            accounts.create_user(KIM, "jungwoo", password, admin=False)
        else:
            with pytest.raises(Invalid):
                accounts.create_user(KIM, "jungwoo", password, admin=False)


# -- the second factor ---


def codes_of(secret: str) -> Iterator[str]:
    """Codes of steps that follow one another, from the oldest that is taken."""
    totp, now = pyotp.TOTP(secret), int(time.time())
    yield from (totp.at(now + 30 * step) for step in (-1, 0, 1))


def switch_on(client: FlaskClient) -> tuple[str, list[str]]:
    client.post("/account/second-factor/begin", data={"csrf_token": csrf(client)})
    page = client.get("/account/second-factor").text
    assert "<svg" in page
    assert "style=" not in page
    found = re.search(r'id="secret"[^>]*>([A-Z2-7]{32})<', page)
    assert found is not None
    wrong = client.post("/account/second-factor/confirm", data={"csrf_token": csrf(client), "code": "000000"})
    assert wrong.status_code == 422
    answer = client.post(
        "/account/second-factor/confirm", data={"csrf_token": csrf(client), "code": next(codes_of(found[1]))}
    )
    codes = re.search(r'id="codes"[^>]*>([^<]+)<', answer.text)
    assert codes is not None
    return found[1], codes[1].split()


def give_code(app: Flask, code: str, name: str = "lee") -> tuple[FlaskClient, int]:
    client, answer = try_to_sign_in(app, name, PASSWORD)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/sign-in/code"
    assert client.get("/account").status_code == 302, "half is not in"
    form = {"csrf_token": token(client.get("/sign-in/code").text), "code": code}
    return client, client.post("/sign-in/code", data=form).status_code


def test_the_second_factor_each_code_once(app: Flask) -> None:
    client = sign_in(app, "lee")
    secret, recovery = switch_on(client)
    used, good, later = codes_of(secret)
    assert give_code(app, used)[1] == 401, "was used to switch it on"
    inside, status = give_code(app, good)
    assert status == 302
    assert inside.get("/account").status_code == 200
    assert give_code(app, good)[1] == 401
    assert give_code(app, recovery[0].upper())[1] == 302
    assert give_code(app, recovery[0])[1] == 401
    assert give_code(app, later)[1] == 302
    with app.app_context():
        stored = db.session.scalars(text("SELECT secret FROM second_factors")).one()
        assert secret not in stored
        assert not set(recovery) & set(db.session.scalars(text("SELECT code_hash FROM recovery_codes")))
    assert "9 recovery codes" in inside.get("/account").text
    off = {"csrf_token": csrf(inside), "code": recovery[1]}
    assert inside.post("/account/second-factor/off", data={**off, "code": "123456"}).status_code == 422
    assert inside.post("/account/second-factor/off", data=off).status_code == 302
    assert try_to_sign_in(app, "lee", PASSWORD)[1].headers["Location"] == "/"


def test_codes_are_guessed_no_more_often_than_passwords(app: Flask) -> None:
    secret, _recovery = switch_on(sign_in(app, "lee"))
    client, _ = try_to_sign_in(app, "lee", PASSWORD)
    guard = token(client.get("/sign-in/code").text)
    tries = [client.post("/sign-in/code", data={"csrf_token": guard, "code": "000000"}).status_code for _ in range(6)]
    assert tries == [401] * 5 + [429]
    assert (
        client.post("/sign-in/code", data={"csrf_token": guard, "code": list(codes_of(secret))[1]}).status_code == 429
    )
    assert ("code", "failure", "lee") in noted(app)


def test_half_a_sign_in_ends_with_time_and_with_another_password(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    _secret, recovery = switch_on(sign_in(app, "lee"))
    client, _ = try_to_sign_in(app, "lee", PASSWORD)
    guard = token(client.get("/sign-in/code").text)
    with app.app_context(), unit_of_work():
        accounts.set_password(KIM, accounts.find_user("lee"), "quite another long one")
    assert client.post("/sign-in/code", data={"csrf_token": guard, "code": recovery[0]}).status_code == 401
    client, _ = try_to_sign_in(app, "lee", "quite another long one")
    later = time.time() + 400
    monkeypatch.setattr("ezadmin_cmdb.accounts.signing_in.time.time", lambda: later)
    assert client.get("/sign-in/code").headers["Location"] == "/sign-in"


def test_an_administrator_must_have_it_where_the_settings_say_so(app: Flask, apps: dict[str, Flask]) -> None:
    strict = apps["strict"]
    root, lee = sign_in(strict, "root"), sign_in(strict, "lee")
    assert lee.get("/account").status_code == 200
    assert root.get("/hosts/").headers["Location"] == "/account/second-factor"
    assert root.get("/account/tokens").status_code == 302
    assert root.get("/api/v1/sites").status_code == 403
    page = root.get("/account/second-factor").text
    guard = {"csrf_token": token(page)}
    root.post("/account/second-factor/begin", data=guard)
    found = re.search(r'id="secret"[^>]*>([A-Z2-7]{32})<', root.get("/account/second-factor").text)
    assert found is not None
    root.post("/account/second-factor/confirm", data={**guard, "code": next(codes_of(found[1]))})
    assert root.get("/hosts/").status_code == 200
    with pytest.raises(SettingsError, match="nobody, admins, everybody"):
        parse({"database": "mysql+pymysql://h/d", "kafka": {"bootstrap": "h:1"}, "config_signing_key": "k",
               "sign_in": {"second_factor": "all"}}, "x")  # fmt: skip


def test_an_administrator_resets_it_and_that_is_recorded(app: Flask) -> None:
    switch_on(sign_in(app, "lee"))
    root = sign_in(app, "root")
    with app.app_context():
        lee = accounts.find_user("lee").id
        assert second_factor.is_on(accounts.find_user("lee"))
    assert "reset" in root.get(f"/users/{lee}").text.lower()
    assert root.post(f"/users/{lee}/second-factor", data={"csrf_token": csrf(root)}).status_code == 302
    assert try_to_sign_in(app, "lee", PASSWORD)[1].headers["Location"] == "/"
    history = root.get(f"/api/v1/users/{lee}/changes").get_json()["items"]
    assert history[0]["fields"] == {"second_factor": [True, False]}
    assert history[0]["actor"] == "root"


def test_signing_in_and_out_stands_in_the_audit_log(app: Flask) -> None:
    try_to_sign_in(app, "lee", "wrong")
    client, _ = try_to_sign_in(app, "lee", PASSWORD)
    client.post("/sign-out", data={"csrf_token": csrf(client)})
    assert noted(app) == [("password", "failure", "lee"), ("sign_in", "success", "lee"), ("sign_out", "success", "lee")]
    with app.app_context():
        assert set(db.session.scalars(select(AuditEntry.address).where(AuditEntry.kind == "sign_in"))) == {"192.0.2.1"}
        assert db.session.scalars(select(UserSession)).all() == []
