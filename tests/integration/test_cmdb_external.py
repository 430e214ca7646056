"""Signing in by a directory (Debian's slapd) and by an OpenID Connect provider, and what of either is not believed."""

from __future__ import annotations

import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from ezadmin_testing.certificates import Authority
from ezadmin_testing.described import KIM, PASSWORD, empty, make, sign_in, token
from ezadmin_testing.directory import ADMIN, SECRET, SUFFIX, Slapd
from flask import Flask, jsonify, request
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select
from werkzeug.serving import make_server

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.rights.models import Team
from ezadmin_cmdb.settings import ElasticConnection, Groups, KafkaConnection, Ldap, Oidc, Settings, SettingsError, parse
from ezadmin_wire.names import Names

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library that it uses
    import oidc_provider_mock

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # ldap3 forgets a socket that TLS refuses
]
MakeApp = Callable[..., Flask]


@pytest.fixture(scope="module")
def settings(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        database=database, kafka=KafkaConnection(stack.kafka), config_signing_key=Path("none"),
        names=Names(f"t{secrets.token_hex(5)}"), elasticsearch=ElasticConnection((stack.elasticsearch,)),
        secret_key_file=tmp_path_factory.mktemp("web") / "secret",
    )  # fmt: skip


@pytest.fixture
def make_app(settings: Settings) -> Iterator[MakeApp]:
    made: list[Flask] = []

    def make_one(**changed: Any) -> Flask:
        app = create_app(replace(settings, **changed))
        app.testing = True
        made.append(app)
        return app

    app = make_one()
    with app.app_context():
        migrate.upgrade(db.engine)
    empty(app)
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "root", PASSWORD, admin=True)
        team = services.create(KIM, find("team"), {"name": "operators", "members": []})
        services.create(KIM, find("team"), {"name": "untouched", "members": []})
        role = services.create(KIM, find("role"), {"name": "r", "permissions": ["site.view"]})
        services.create(KIM, find("grant"), {"team": team, "role": role})
        make("site", 1)
    yield make_one
    for app in made:
        app.extensions["ezadmin_elastic"].close()
        app.extensions["ezadmin_kafka"].close()
        with app.app_context():
            db.engine.dispose()


def user_of(app: Flask, name: str) -> dict[str, Any] | None:
    with app.app_context():
        user = db.session.scalar(select(User).where(User.name == name))
        if user is None:
            return None
        teams = [
            team.name for team in db.session.scalars(select(Team)) if any(one.id == user.id for one in team.members)
        ]
        return {"origin": user.origin, "admin": user.admin, "teams": teams, "id": user.id}


def reasons(app: Flask, action: str) -> list[str]:
    with app.app_context():
        which = AuditEntry.kind == "sign_in", AuditEntry.action == action, AuditEntry.outcome == "failure"
        return [one.details for one in db.session.scalars(select(AuditEntry).where(*which).order_by(AuditEntry.id))]


# -- LDAP ---


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    if not Path("/usr/sbin/slapd").exists():
        pytest.skip("slapd is not installed")
    folder = tmp_path_factory.mktemp("slapd")
    authority = Authority(folder)
    issued = authority.issue("slapd", ("127.0.0.1",))
    running = Slapd(folder, *issued)
    running.fill(
        {"han": "directory pass", "seo": "another pass", "root": "not ezadmin's"},
        {"ops": ["han", "seo"], "chiefs": ["seo"]},
    )
    running.ca_file = authority.ca_file  # type: ignore[attr-defined]
    yield running
    running.stop()


@pytest.fixture
def ldap(slapd: Slapd, tmp_path: Path) -> Ldap:
    file = tmp_path / "ldap.password"
    file.write_text(SECRET)
    file.chmod(0o600)
    groups = Groups(teams={f"cn=ops,ou=groups,{SUFFIX}": "operators"}, admins=(f"cn=chiefs,ou=groups,{SUFFIX}",))
    return Ldap(
        slapd.url,
        SUFFIX,
        start_tls=True,
        ca_file=slapd.ca_file,
        bind_dn=ADMIN,
        password_file=file,
        groups=groups,  # type: ignore[attr-defined]
    )


def with_password(app: Flask, name: str, password: str) -> tuple[FlaskClient, int]:
    client = app.test_client()
    form = {"name": name, "password": password, "csrf_token": token(client.get("/sign-in").text)}
    return client, client.post("/sign-in", data=form).status_code


def test_people_of_the_directory_sign_in_and_are_in_the_teams_of_their_groups(
    make_app: MakeApp, ldap: Ldap, slapd: Slapd
) -> None:
    app = make_app(ldap=ldap)
    client, status = with_password(app, "han", "directory pass")
    assert status == 302
    assert client.get("/api/v1/sites").get_json()["total"] == 1, "by the grant of the team"
    assert user_of(app, "han") == {
        "origin": "ldap",
        "admin": False,
        "teams": ["operators"],
        "id": user_of(app, "han")["id"],
    }  # type: ignore[index]
    assert "kept elsewhere" in client.get("/account").text
    assert with_password(app, "seo", "another pass")[1] == 302
    assert user_of(app, "seo")["admin"]  # type: ignore[index]
    before = user_of(app, "han")
    slapd.remove_member("ops", "han")
    assert with_password(app, "HAN", "directory pass")[1] == 302
    after = user_of(app, "han")
    assert after
    assert before
    assert after["id"] == before["id"]
    assert after["teams"] == []
    assert client.get("/api/v1/sites").status_code == 403
    with app.app_context():
        told = db.session.scalars(
            select(AuditEntry).where(AuditEntry.actor == "ldap: han", AuditEntry.kind == "change")
        )
        assert [(one.object_type, one.action) for one in told] == [
            ("user", "create"),
            ("team", "update"),
            ("team", "update"),
        ]


def test_what_the_directory_does_not_confirm(make_app: MakeApp, ldap: Ldap) -> None:
    app = make_app(ldap=ldap)
    for name, password in [
        ("han", "wrong"),
        ("han", ""),
        ("nobody", "x"),
        ("*", "directory pass"),
        ("han)(uid=*", "directory pass"),
        ("h*n", "directory pass"),
    ]:
        assert with_password(app, name, password)[1] in (401, 429), (name, password)
    assert user_of(app, "han") is None
    assert with_password(app, "root", "not ezadmin's")[1] == 401, "a name of ezadmin's own is never the directory's"
    assert with_password(app, "root", PASSWORD)[1] == 302
    closed = make_app(ldap=replace(ldap, groups=replace(ldap.groups, create_users=False)))
    assert with_password(closed, "seo", "another pass")[1] == 403
    assert user_of(closed, "seo") is None
    assert with_password(app, "seo", "another pass")[1] == 302
    with app.app_context(), unit_of_work():
        accounts.find_user("seo").active = False
    assert with_password(app, "seo", "another pass")[1] == 403


def test_the_own_administrator_signs_in_while_the_directory_is_away_or_not_to_be_trusted(
    make_app: MakeApp, ldap: Ldap, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for changed in ({"url": "ldap://127.0.0.1:1"}, {"ca_file": Authority(other, "somebody else").ca_file}):
        app = make_app(ldap=replace(ldap, **changed))  # type: ignore[arg-type]
        assert with_password(app, "han", "directory pass")[1] == 503, changed
        assert with_password(app, "root", PASSWORD)[1] == 302


# -- OpenID Connect ---


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "oidc.secret"
    file.write_text("client secret")
    file.chmod(0o600)
    return file


def follow(app: Flask, client: FlaskClient | None = None, sub: str = "s-1") -> tuple[FlaskClient, Any]:
    """Sign in by the provider as a browser does: there, its form, and back."""
    client = client or app.test_client()
    there = client.get("/sign-in/provider", query_string={"next": "/sites/"})
    assert there.status_code == 302, there.text
    back = requests.post(there.headers["Location"], data={"sub": sub}, allow_redirects=False, timeout=10)
    assert back.status_code == 302, back.text
    parts = urlsplit(back.headers["Location"])
    return client, client.get(f"{parts.path}?{parts.query}")


def test_people_of_a_provider_sign_in(make_app: MakeApp, secret_file: Path) -> None:
    with warnings.catch_warnings(), oidc_provider_mock.run_server_in_thread() as server:
        warnings.simplefilter("ignore")
        issuer = f"http://localhost:{server.server_port}"
        claims = {"preferred_username": "yoon", "groups": ["ops", "chiefs"]}
        assert requests.put(f"{issuer}/users/s-1", json=claims, timeout=5).status_code < 300
        groups = Groups(teams={"ops": "operators"})
        scopes = "openid profile email groups"
        app = make_app(oidc=Oidc(issuer, "ezadmin", secret_file, title="Hanbit ID", scopes=scopes, groups=groups))
        assert "Hanbit ID" in app.test_client().get("/sign-in").text
        client, answer = follow(app)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/sites/")
        assert client.get("/api/v1/sites").status_code == 200
        assert user_of(app, "yoon")["teams"] == ["operators"]  # type: ignore[index]
        # called otherwise there, he is still the same here
        requests.put(f"{issuer}/users/s-1", json={**claims, "preferred_username": "root"}, timeout=5)
        client, answer = follow(app)
        assert answer.status_code == 302
        assert "yoon" in client.get("/account").text
        # another one, who calls himself as an administrator of ezadmin's own
        requests.put(f"{issuer}/users/s-2", json={"preferred_username": "root"}, timeout=5)
        client, answer = follow(app, sub="s-2")
        assert answer.status_code == 403
        assert client.get("/account").status_code == 302
        closed = make_app(oidc=Oidc(issuer, "ezadmin", secret_file, groups=Groups(create_users=False)))
        requests.put(f"{issuer}/users/s-3", json={"preferred_username": "new"}, timeout=5)
        assert follow(closed, sub="s-3")[1].status_code == 403
        # what came back once is worth nothing a second time, in another browser, or with another state
        client = app.test_client()
        there = client.get("/sign-in/provider").headers["Location"]
        back = requests.post(there, data={"sub": "s-1"}, allow_redirects=False, timeout=10).headers["Location"]
        query = urlsplit(back).query
        assert app.test_client().get(f"/sign-in/provider/answer?{query}").status_code == 401
        assert client.get(f"/sign-in/provider/answer?{query.replace('state=', 'state=x')}").status_code == 401
        assert client.get(f"/sign-in/provider/answer?{query}").status_code == 401
        assert sign_in(app, "root").get("/account").status_code == 200
    assert app.test_client().get("/sign-in/provider").status_code in (302, 503)


class Forger:
    """A provider that says what it is told to: what a good one cannot be made to do."""

    def __init__(self) -> None:
        self.key, self.other = RSAKey.generate_key(2048, {"kid": "a"}), RSAKey.generate_key(2048, {"kid": "a"})
        self.app = Flask("forger")
        self.claims: dict[str, Any] = {}
        self.header = {"alg": "RS256", "kid": "a"}
        self.sign_with = self.key
        self.nonce = ""
        self.metadata: dict[str, Any] = {}
        self.app.add_url_rule("/.well-known/openid-configuration", "metadata", lambda: jsonify(self._metadata()))
        self.app.add_url_rule("/jwks", "jwks", lambda: jsonify({"keys": [self.key.as_dict(private=False)]}))
        self.app.add_url_rule("/token", "token", self._token, methods=["POST"])
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token", "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"], **self.metadata,
        }  # fmt: skip

    def _token(self) -> Any:
        assert request.form["code"] == "good"
        assert request.form["code_verifier"]
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "s-1", "aud": "ezadmin", "iat": now, "exp": now + 300, "nonce": self.nonce,
            "preferred_username": "forged", **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.header["alg"] == "none":
            import base64
            import json

            parts = [
                base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode()
                for one in (self.header, claims)
            ]
            text = ".".join(parts) + "."
        elif self.header["alg"] == "HS256":
            from joserfc.jwk import OctKey

            text = jwt.encode(self.header, claims, OctKey.import_key("client secret" * 4), algorithms=["HS256"])
        else:
            text = jwt.encode(self.header, claims, self.sign_with)
        return jsonify({"access_token": "x", "token_type": "Bearer", "id_token": text})

    def answer(self, app: Flask) -> Any:
        """Sign in, and come back with this provider's word."""
        client = app.test_client()
        there = client.get("/sign-in/provider")
        assert there.status_code == 302, there.text
        asked = parse_qs(urlsplit(there.headers["Location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        self.nonce = asked["nonce"][0]
        return client.get("/sign-in/provider/answer", query_string={"code": "good", "state": asked["state"][0]})


@pytest.fixture(scope="module")
def forger() -> Iterator[Forger]:
    made = Forger()
    yield made
    made.server.shutdown()


@pytest.mark.parametrize(
    ("what", "claims", "header", "foreign"),
    [
        ("issuer", {"iss": "https://evil.example"}, {}, False), ("no issuer", {"iss": None}, {}, False),
        ("audience", {"aud": "another"}, {}, False), ("nonce", {"nonce": "another"}, {}, False),
        ("no nonce", {"nonce": None}, {}, False), ("expired", {"exp": 1_700_000_000, "iat": 1_600_000_000}, {}, False),
        ("no expiry", {"exp": None}, {}, False), ("not yet", {"nbf": 4_000_000_000}, {}, False),
        ("alg none", {}, {"alg": "none"}, False), ("HMAC", {}, {"alg": "HS256"}, False), ("another key", {}, {}, True),
        ("no name", {"preferred_username": None}, {}, False),
    ],
)  # fmt: skip
def test_a_provider_is_not_believed_without_proof(
    make_app: MakeApp,
    secret_file: Path,
    forger: Forger,
    what: str,
    claims: dict[str, Any],
    header: dict[str, str],
    foreign: bool,
) -> None:
    app = make_app(oidc=Oidc(forger.issuer, "ezadmin", secret_file))
    forger.claims, forger.header, forger.sign_with = {}, {"alg": "RS256", "kid": "a"}, forger.key
    assert forger.answer(app).status_code == 302, "as it is, it is believed"
    forger.claims, forger.header = claims, {"alg": "RS256", "kid": "a", **header}
    forger.sign_with = forger.other if foreign else forger.key
    answer = forger.answer(app)
    assert answer.status_code == 401, what
    assert len(reasons(app, "provider")) == 1


def test_a_provider_that_calls_itself_otherwise_is_not_asked(
    make_app: MakeApp, secret_file: Path, forger: Forger
) -> None:
    forger.metadata = {"issuer": "https://evil.example"}
    try:
        assert (
            make_app(oidc=Oidc(forger.issuer, "ezadmin", secret_file))
            .test_client()
            .get("/sign-in/provider")
            .status_code
            == 503
        )
    finally:
        forger.metadata = {}


def test_settings_are_checked() -> None:
    whole = {"database": "mysql+pymysql://h/d", "kafka": {"bootstrap": "h:1"}, "config_signing_key": "k"}
    ldap = {"url": "ldaps://d", "base": "dc=x", "teams": {"a": "b"}, "admin_groups": ["c"], "bind_dn": "cn=x"}
    found = parse({**whole, "ldap": ldap}, "x").ldap
    assert found
    assert found.groups == Groups(True, {"a": "b"}, ("c",))
    assert found.bind_dn == "cn=x"
    oidc = {"issuer": "https://i/", "client_id": "c", "client_secret_file": "f"}
    assert parse({**whole, "oidc": oidc}, "x").oidc.issuer == "https://i"  # type: ignore[union-attr]
    for table, says in [
        ({"ldap": {**ldap, "url": "http://d"}}, "ldaps://"), ({"ldap": {**ldap, "user_filter": "(a=b)"}}, "{name}"),
        ({"ldap": {**ldap, "x": 1}}, "unknown setting"), ({"oidc": {"client_id": "c"}}, "issuer is missing"),
        ({"ldap": {**ldap, "create_users": 1}}, "true or false"), ({"oidc": {**oidc, "teams": {"a": 1}}}, "name of a team"),
    ]:  # fmt: skip
        with pytest.raises(SettingsError, match=says.replace("{", r"\{")):
            parse({**whole, **table}, "x")
