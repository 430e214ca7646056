"""The gateway as a real process, on real Kafka and MariaDB: its endpoints, and what it refuses."""

from __future__ import annotations

import gzip
import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from ezadmin_testing.cmdb import read
from ezadmin_testing.gateway import KIM, PATH, GatewayUnderTest, SimulatedHost, eventually
from sqlalchemy import select

from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.enrolment import services as enrolment
from ezadmin_cmdb.enrolment.models import EnrolmentToken, HostLine
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host, HostKey
from ezadmin_wire import batch, upload
from ezadmin_wire.commands import SignedCommand, decode
from ezadmin_wire.enrolment import read_token
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes
from ezadmin_wire.times import format_time, now


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    folder = tmp_path_factory.mktemp("gateway")
    gateway = GatewayUnderTest(stack, module_names, database, folder, trusted_proxies='["127.0.0.0/8"]')
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def known(gateway: GatewayUnderTest) -> SimulatedHost:
    """A host for tests that change nothing of it."""
    return gateway.known()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


# -- requests ---


def test_a_host_becomes_known_and_polls(gateway: GatewayUnderTest) -> None:
    host = gateway.host(name="db1")
    answer = host.enrol(gateway.token())
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["host"], said["state"], said["prefix"]) == (host.id, "active", gateway.names.prefix)
    assert said["command_keys"] == [gateway.command_key.public.hex()]
    polled = host.poll().json()
    assert (polled["commands"], polled["state"]) == ([], "active")
    me = host.ask("GET", "/me").json()
    assert (me["host"], me["name"], me["state"], me["kid"]) == (host.id, "db1", "active", host.key.kid)


def test_health_and_figures_need_no_signature(gateway: GatewayUnderTest) -> None:
    health = httpx.get(gateway.base + PATH + "/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert "ezadmin_gateway_polls_waiting 0" in httpx.get(gateway.base + PATH + "/metrics").text


def test_what_a_host_did_not_sign_is_refused(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    me = gateway.base + PATH + "/me"
    assert refusal(httpx.get(me)) == (401, "bad_authorization")
    assert refusal(httpx.get(me, headers={"Authorization": "Bearer x"})) == (401, "bad_authorization")
    assert refusal(known.ask("GET", "/me", host=str(uuid.uuid4()))) == (404, "unknown_host")
    assert refusal(known.ask("GET", "/me", key=SigningKey.generate())) == (403, "unknown_key")
    good = known.headers("GET", PATH + "/me")["Authorization"]
    assert refusal(httpx.get(f"{me}?x=1", headers={"Authorization": good})) == (401, "bad_signature")
    forged = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
    assert refusal(httpx.get(me, headers={"Authorization": forged})) == (401, "bad_signature")
    assert httpx.get(me, headers={"Authorization": good}).status_code == 200


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_request_of_another_time_is_refused_and_told_the_time(known: SimulatedHost, minutes: int) -> None:
    answer = known.ask("GET", "/me", time=format_time(utc_now() + timedelta(minutes=minutes)))
    assert refusal(answer) == (401, "stale_request")
    assert answer.json()["time"][:16] == now()[:16]


def test_a_body_that_was_altered_is_refused(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    body = upload.encode([log_batch(gateway, known)])
    headers = known.headers("POST", PATH + "/batches", body)
    answer = httpx.post(gateway.base + PATH + "/batches", content=body[:-3] + b"x}\n", headers=headers)
    assert refusal(answer) == (401, "bad_signature")


def test_unknown_paths_methods_and_values(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    assert refusal(httpx.get(gateway.base + PATH + "/nothing")) == (404, "unknown_path")
    assert refusal(httpx.get(gateway.base + PATH + "/enrol")) == (405, "wrong_method")
    assert refusal(known.ask("GET", "/poll?wait=0&instance=x")) == (400, "bad_value")
    assert refusal(known.ask("GET", f"/poll?wait=x&instance={known.instance}")) == (400, "bad_value")
    assert refusal(known.ask("POST", "/keys", b"{}")) == (400, "bad_value")


# -- tokens ---


def test_a_token_is_good_for_so_many_hosts_whoever_is_first(gateway: GatewayUnderTest) -> None:
    token = gateway.token(uses=5)
    machines = [gateway.host() for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda one: one[1].enrol(token, headers=from_address(f"192.0.2.{one[0]}")), enumerate(machines))
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [401] * 11
    assert {answer.json()["error"] for answer in answers if answer.status_code == 401} == {"token_used_up"}
    with gateway.work():
        ids = [machine.id for machine in machines]
        assert len(db.session.scalars(select(Host.id).where(Host.id.in_(ids))).all()) == 5
        refused = select(AuditEntry).where(AuditEntry.kind == "enrolment", AuditEntry.action == "token_used_up")
        assert len(db.session.scalars(refused).all()) == 11


def test_a_request_that_is_repeated_uses_the_token_once(gateway: GatewayUnderTest) -> None:
    token, host = gateway.token(uses=1), gateway.host()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: host.enrol(token), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert {answer.json()["host"] for answer in answers} == {host.id}
    assert refusal(gateway.host().enrol(token)) == (401, "token_used_up")
    assert host.enrol(token).status_code == 200, "also when it is used up"


def test_tokens_that_are_no_longer_good(gateway: GatewayUnderTest) -> None:
    expired, revoked = gateway.token(), gateway.token()
    with gateway.work():
        for text, column in ((expired, "expires"), (revoked, "revoked")):
            token = db.session.scalars(
                select(EnrolmentToken).where(EnrolmentToken.secret_hash == enrolment.digest(read_token(text).secret))
            ).one()
            setattr(token, column, utc_now() - timedelta(seconds=1))
    headers = from_address("192.0.2.90")
    assert refusal(gateway.host().enrol(expired, headers=headers)) == (401, "token_expired")
    assert refusal(gateway.host().enrol(revoked, headers=headers)) == (401, "token_revoked")
    assert refusal(gateway.host().enrol("no such token", headers=headers)) == (401, "token_unknown")


def test_wrong_tokens_of_an_address_are_limited(gateway: GatewayUnderTest) -> None:
    headers = from_address("203.0.113.5, 192.0.2.91")  # what stands before our proxy's word is anybody's
    answers = [gateway.host().enrol("wrong", headers=headers) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) in range(1, 8)
    good = gateway.token()
    assert refusal(gateway.host().enrol(good, headers=headers)) == (429, "too_many_requests")
    assert gateway.host().enrol(good, headers=from_address("192.0.2.92")).status_code == 200


def test_an_enrolment_is_signed_with_the_new_key(gateway: GatewayUnderTest) -> None:
    host, token = gateway.host(), gateway.token()
    assert refusal(host.enrol(token, key=SigningKey.generate())) == (401, "bad_signature")
    assert refusal(host.enrol(token, host=str(uuid.uuid4()))) == (401, "bad_signature")
    assert refusal(host.ask("POST", "/enrol", b"{}")) == (400, "bad_value")
    assert host.enrol(token).status_code == 200


def test_a_known_host_with_another_key_is_refused(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    impostor = gateway.host(id=known.id)
    assert refusal(impostor.enrol(gateway.token())) == (409, "host_taken")
    assert refusal(impostor.enrol(gateway.token(replace=True))) == (409, "host_taken"), "it is another machine"
    stolen = gateway.host(key=known.key)
    assert refusal(stolen.enrol(gateway.token())) == (409, "host_taken")


def test_a_token_gives_site_and_group(gateway: GatewayUnderTest) -> None:
    from ezadmin_cmdb.datacenter.sites import Site
    from ezadmin_cmdb.rights.models import HostGroup

    with gateway.work():
        site, group = Site(name=f"Seoul {secrets.token_hex(3)}"), HostGroup(name=f"web {secrets.token_hex(3)}")
        db.session.add_all([site, group])
        db.session.flush()
        token = enrolment_token(gateway, site=site, group=group)
    host = gateway.known_with(token)
    with gateway.work():
        found = db.session.get_one(Host, host.id)
        assert found.site is not None
        assert found.site.name.startswith("Seoul")
        assert next(one.name for one in found.groups).startswith("web")


def enrolment_token(gateway: GatewayUnderTest, **options: Any) -> str:
    """A token, made in the unit of work that goes on."""
    from ezadmin_cmdb.enrolment import tokens

    return tokens.create(KIM, secrets.token_hex(4), **options).text


# -- machines that are known again ---


def again(gateway: GatewayUnderTest, before: SimulatedHost) -> SimulatedHost:
    """The machine of a host, installed anew."""
    return gateway.host(fingerprint=before.fingerprint)


def test_a_machine_that_was_installed_again_takes_its_old_place(gateway: GatewayUnderTest) -> None:
    old = gateway.known()
    new = again(gateway, old)
    time.sleep(2.1)  # nobody was heard for as long as the settings of the test say
    answer = new.enrol(gateway.token(replace=True))
    assert (answer.status_code, answer.json()["host"]) == (200, old.id)
    asked, new.id = new.id, old.id
    assert new.poll().status_code == 200
    assert refusal(old.poll()) == (403, "revoked")
    with gateway.work():
        assert db.session.get(Host, asked) is None
        entry = db.session.scalars(
            select(AuditEntry)
            .where(AuditEntry.kind == "enrolment", AuditEntry.object_id == old.id)
            .order_by(AuditEntry.id.desc())
        ).first()
        assert entry is not None
        assert entry.action == "reinstalled"


def test_its_answer_can_be_lost(gateway: GatewayUnderTest) -> None:
    old, token = gateway.known(), gateway.token(replace=True)
    new = again(gateway, old)
    time.sleep(2.1)
    for _ in range(3):
        assert new.enrol(token).json()["host"] == old.id


def test_a_machine_does_not_take_the_place_of_one_that_is_there(gateway: GatewayUnderTest) -> None:
    old = gateway.known()
    old.poll()
    new = again(gateway, old)
    answer = new.enrol(gateway.token(replace=True))
    assert answer.json()["host"] == new.id
    assert old.poll().status_code == 200
    with gateway.app.app_context():
        came = enrolment.about(db.session.get_one(Host, new.id))["came"]
        assert came[0].other == old.id


def test_nor_without_the_option_nor_beyond_the_group_nor_one_of_two(gateway: GatewayUnderTest) -> None:
    from ezadmin_cmdb.rights.models import HostGroup

    old = gateway.known()
    time.sleep(2.1)
    second = again(gateway, old)
    with gateway.work():
        group = HostGroup(name=f"others {secrets.token_hex(3)}")
        db.session.add(group)
        db.session.flush()
        bound = enrolment_token(gateway, replace=True, group=group)
    assert second.enrol(bound).json()["host"] == second.id
    third, fourth = again(gateway, old), again(gateway, old)
    assert third.enrol(gateway.token()).json()["host"] == third.id
    time.sleep(2.1)
    assert fourth.enrol(gateway.token(replace=True)).json()["host"] == fourth.id


def test_the_machine_of_a_revoked_host_comes_into_quarantine(gateway: GatewayUnderTest) -> None:
    old = gateway.known()
    with gateway.work():
        hosts.set_state(KIM, hosts.find(KIM, old.id), "revoked")
    new = again(gateway, old)
    answer = new.enrol(gateway.token(replace=True))
    assert (answer.json()["host"], answer.json()["state"]) == (new.id, "quarantined")


# -- copies of disks, quarantine ---


def test_a_copy_of_a_disk_waits_in_quarantine(gateway: GatewayUnderTest) -> None:
    original = gateway.known()
    copy = gateway.host()
    proof = enrolment_proof(original, copy)
    answer = copy.enrol(clone=proof)
    assert (answer.status_code, answer.json()["state"], answer.json()["host"]) == (200, "quarantined", copy.id)
    gateway.command(copy.id)
    assert (copy.poll(1).json()["commands"], copy.poll().json()["state"]) == ([], "quarantined")
    assert refusal(copy.ask("POST", "/batches", upload.encode([log_batch(gateway, copy)]))) == (403, "quarantined")
    waiting = ThreadPoolExecutor(1).submit(copy.poll, 20)
    time.sleep(0.5)
    gateway.run("host", "accept", copy.id)
    assert eventually(lambda: copy.poll(2).json()["state"] == "active")
    assert waiting.result(30).json()["commands"], "its poll waited, and the command too"
    with gateway.work():
        about = enrolment.about(db.session.get_one(Host, copy.id))
        assert about["machine"].cloned_from == original.id
        assert [one.id for one in enrolment.about(db.session.get_one(Host, original.id))["copies"]] == [copy.id]


def enrolment_proof(original: SimulatedHost, copy: SimulatedHost, key: SigningKey | None = None) -> Any:
    from ezadmin_wire.enrolment import clone_proof

    return clone_proof(key or original.key, original.id, copy.id, copy.key.public.hex())


def test_a_rejected_copy_is_revoked(gateway: GatewayUnderTest) -> None:
    original, copy = gateway.known(), gateway.host()
    assert copy.enrol(clone=enrolment_proof(original, copy)).status_code == 200
    gateway.run("host", "reject", copy.id)
    assert eventually(lambda: copy.poll().status_code == 403)
    assert "is not in quarantine" in gateway.run_wrong("host", "accept", original.id)


def test_proofs_that_are_none(gateway: GatewayUnderTest) -> None:
    original, copy, other = gateway.known(), gateway.host(), gateway.host()
    headers = from_address("192.0.2.93")
    for proof in (
        enrolment_proof(original, copy, SigningKey.generate()), enrolment_proof(original, other), enrolment_proof(other, copy),
    ):  # fmt: skip
        assert refusal(copy.enrol(clone=proof, headers=headers)) == (401, "bad_clone_proof")
    with gateway.work():
        hosts.revoke_key(KIM, hosts.find_to_change(KIM, original.id), original.key.kid)
    assert refusal(copy.enrol(clone=enrolment_proof(original, copy), headers=headers)) == (401, "bad_clone_proof")


def test_a_token_with_quarantine(gateway: GatewayUnderTest) -> None:
    host = gateway.known(quarantine=True)
    assert host.ask("GET", "/me").json()["state"] == "quarantined"


# -- commands ---


def commands_of(gateway: GatewayUnderTest, answer: httpx.Response) -> list[str]:
    key = VerifyKey(gateway.command_key.public)
    return [decode(SignedCommand(**one), [key]).id for one in answer.json()["commands"]]


def test_a_waiting_poll_gets_a_command_within_a_second(gateway: GatewayUnderTest) -> None:
    host, other = gateway.known(), gateway.known()
    with ThreadPoolExecutor(2) as threads:
        waiting, others = threads.submit(host.poll, 15), threads.submit(other.poll, 3)
        time.sleep(0.7)
        command = gateway.command(host.id)
        committed = time.monotonic()
        assert commands_of(gateway, waiting.result(30)) == [command]
        assert time.monotonic() - committed < 1.5
        assert gateway.state_of(command) == "sent"
        assert others.result(10).json()["commands"] == []


def test_a_command_comes_again_until_it_is_accepted(gateway: GatewayUnderTest) -> None:
    from ezadmin_cmdb.commands import states
    from ezadmin_cmdb.commands.models import Command
    from ezadmin_wire.jobs import JobState

    host = gateway.known()
    command = gateway.command(host.id)
    assert commands_of(gateway, host.poll(5)) == [command]
    assert commands_of(gateway, host.poll(1)) == [], "not at once: the agent's word may be on its way"
    restarted = gateway.host(id=host.id, key=host.key)
    assert commands_of(gateway, restarted.poll(5)) == [command], "another start of the agent may not know of it"
    with gateway.work():
        run = db.session.get_one(Command, command).run
        states.state_changed(JobState(run, 1, "accepted", now()), host.id)
    assert commands_of(gateway, gateway.host(id=host.id, key=host.key).poll(1)) == []


def test_commands_that_expired_or_are_for_another_host_do_not_come(gateway: GatewayUnderTest) -> None:
    host, other = gateway.known(), gateway.known()
    gateway.command(other.id)
    gateway.command(host.id, seconds=0.001)
    assert commands_of(gateway, host.poll(1.5)) == []


@pytest.mark.parametrize("what", ["host", "key", "deleted"])
def test_a_revoke_ends_a_poll_that_waits(gateway: GatewayUnderTest, what: str) -> None:
    host = gateway.known()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(host.poll, 30)
        time.sleep(0.7)
        with gateway.work():
            found = hosts.find_to_change(KIM, host.id)
            if what == "host":
                hosts.set_state(KIM, found, "revoked")
            elif what == "key":
                hosts.revoke_key(KIM, found, host.key.kid)
            else:
                db.session.delete(found)
        started = time.monotonic()
        assert refusal(waiting.result(20)) == ((404, "unknown_host") if what == "deleted" else (403, "revoked"))
        assert time.monotonic() - started < 3
    assert host.poll().status_code in (403, 404)


def test_two_machines_with_one_identity_are_noted(gateway: GatewayUnderTest) -> None:
    one = gateway.known()
    two = gateway.host(id=one.id, key=one.key)
    for poll, address in ((one, "192.0.2.10"), (two, "192.0.2.20")) * 2:
        poll.poll(headers=from_address(address))

    def noted() -> Any:
        with gateway.app.app_context():
            line = db.session.get(HostLine, one.id)
            return line.twins if line else None

    assert eventually(noted)["addresses"] == ["192.0.2.10", "192.0.2.20"]
    with gateway.work():
        entries = select(AuditEntry).where(AuditEntry.action == "two_machines", AuditEntry.object_id == one.id)
        assert len(db.session.scalars(entries).all()) == 1


def test_an_agent_that_starts_again_is_no_twin(gateway: GatewayUnderTest) -> None:
    host = gateway.known()
    for _ in range(4):
        gateway.host(id=host.id, key=host.key).poll()
    seen = eventually(lambda: line_of(gateway, host.id), 15)
    assert seen["twins"] is None
    assert seen["seen"] is not None


def line_of(gateway: GatewayUnderTest, host_id: str) -> dict[str, Any] | None:
    with gateway.app.app_context():
        line = db.session.get(HostLine, host_id)
        return None if line is None else {"seen": line.seen, "twins": line.twins}


# -- uploads ---


def log_batch(
    gateway: GatewayUnderTest,
    host: SimulatedHost,
    *,
    key: SigningKey | None = None,
    topic: str | None = None,
    seq: int = 0,
) -> tuple[list[tuple[str, bytes]], bytes]:
    return batch.encode(
        key or host.key, host=host.id, topic=topic or gateway.names.logs, stream="system", epoch="00000000000000aa", seq=seq,
        lines=[b'{"message":"hello","log.level":"info"}'], dataset="system.log", tmin=now(), tmax=now(), sent=now(),
    )  # fmt: skip


def test_batches_stand_in_kafka_as_they_were_signed(gateway: GatewayUnderTest) -> None:
    host = gateway.known()
    sent = [log_batch(gateway, host, seq=seq) for seq in range(3)]
    answer = host.ask("POST", "/batches", upload.encode(sent))
    assert answer.json() == {"results": [{"ok": True}] * 3}
    packed = gzip.compress(upload.encode([log_batch(gateway, host, seq=3)]))
    assert host.ask("POST", "/batches", packed, {"Content-Encoding": "gzip"}).json() == {"results": [{"ok": True}]}
    found = [one for one in read(gateway.kafka, gateway.names.logs) if one.key == host.id.encode()]
    assert [(one.headers, one.value) for one in found[:3]] == sent
    for one in found:
        batch.decode(gateway.names.logs, one.key, one.headers, one.value, lambda *_: VerifyKey(host.key.public))
    assert len(found) == 4


def test_batches_that_are_not_the_signers_are_refused_one_by_one(gateway: GatewayUnderTest) -> None:
    host, other = gateway.known(), gateway.known()
    headers, value = log_batch(gateway, host)
    bodies = [
        log_batch(gateway, host), log_batch(gateway, other), (headers, value.replace(b"hello", b"hullo")),
        log_batch(gateway, host, topic=gateway.names.config), log_batch(gateway, host, key=other.key), (headers[:-1], value),
        log_batch(gateway, host, seq=1),
    ]  # fmt: skip
    results = host.ask("POST", "/batches", upload.encode(bodies)).json()["results"]
    assert [one.get("error", "ok") for one in results] == [
        "ok", "wrong_host", "bad_signature", "wrong_topic", "unknown_key", "bad_header", "ok",
    ]  # fmt: skip
    assert not [one for one in read(gateway.kafka, gateway.names.config) if one.key == host.id.encode()]


def test_bodies_that_are_too_large_or_torn(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    assert refusal(known.ask("POST", "/batches", b"x")) == (400, "bad_upload")
    assert refusal(known.ask("POST", "/batches", bytes(upload.MAX_BODY + 1))) == (413, "too_large")
    zip_header = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(bytes(200 << 20))
    assert len(bomb) < 1 << 20
    assert refusal(known.ask("POST", "/batches", bomb, zip_header)) == (413, "too_large")
    assert refusal(known.ask("POST", "/batches", b"no gzip", zip_header)) == (400, "bad_encoding")
    assert refusal(known.ask("POST", "/batches", gzip.compress(b"x")[:-1], zip_header)) == (400, "bad_encoding")
    assert refusal(known.ask("POST", "/batches", b"x", {"Content-Encoding": "br"})) == (415, "bad_encoding")
    assert refusal(known.ask("POST", "/enrol", bytes(65 << 10))) == (413, "too_large")
    chunked = known.headers("POST", PATH + "/batches", b"")
    endless = httpx.post(
        gateway.base + PATH + "/batches", content=(bytes(1 << 20) for _ in range(9)), headers=chunked, timeout=30
    )
    assert refusal(endless) == (413, "too_large")


# -- keys ---


def rotation(host: SimulatedHost, new: SigningKey, signer: SigningKey | None = None) -> bytes:
    import json

    public = new.public.hex()
    proof = (signer or new).sign(signed_bytes("ezadmin/rotate/1", [host.id.encode(), public.encode()])).hex()
    return json.dumps({"public_key": public, "proof": proof}).encode()


def test_a_host_changes_its_key_without_a_gap(gateway: GatewayUnderTest) -> None:
    host, new = gateway.known(), SigningKey.generate()
    body = rotation(host, new)
    for _ in range(2):  # the first answer may be lost
        answer = host.ask("POST", "/keys", body)
        assert (answer.status_code, answer.json().get("kid")) == (200, new.kid), answer.text
    assert host.poll(key=new).status_code == 200
    assert host.poll().status_code == 200, "data signed with the old key may still lie in Kafka"
    assert refusal(host.ask("POST", "/keys", rotation(host, SigningKey.generate()))) == (403, "key_replaced")
    with gateway.work():
        old = db.session.get_one(HostKey, (host.id, host.key.kid))
        assert old.ends is not None
        assert timedelta(days=2.9) < old.ends - utc_now() <= timedelta(days=3)
        old.ends = utc_now() - timedelta(seconds=1)
    with gateway.work():
        enrolment.end_keys()
    assert eventually(lambda: host.poll().status_code == 403)
    assert host.poll(key=new).status_code == 200


def test_another_key_needs_its_own_proof(gateway: GatewayUnderTest) -> None:
    host, other, new = gateway.known(), gateway.known(), SigningKey.generate()
    assert refusal(host.ask("POST", "/keys", rotation(host, new, signer=host.key))) == (400, "bad_proof")
    assert refusal(host.ask("POST", "/keys", rotation(other, new))) == (400, "bad_proof")
    assert refusal(host.ask("POST", "/keys", rotation(host, other.key))) == (409, "key_taken")


# -- files ---


def test_files_are_named_by_their_hash(gateway: GatewayUnderTest, known: SimulatedHost) -> None:
    content = secrets.token_bytes(100_000)
    name = gateway.store(content)
    assert refusal(httpx.get(f"{gateway.base}{PATH}/files/{name}")) == (401, "bad_authorization")
    answer = known.ask("GET", f"/files/{name}")
    assert (answer.status_code, answer.content) == (200, content)
    part = known.ask("GET", f"/files/{name}", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert refusal(known.ask("GET", f"/files/{'0' * 64}")) == (404, "unknown_file")
    for bad in ("..%2f..%2fetc%2fpasswd", "x", name.upper()):
        assert known.ask("GET", f"/files/{bad}").status_code == 404
    assert refusal(httpx.get(f"{gateway.base}{PATH}/ca.pem")) == (404, "unknown_file")


def test_many_polls_of_one_host_do_not_pile_up(gateway: GatewayUnderTest) -> None:
    host = gateway.known()
    with ThreadPoolExecutor(8) as threads:
        polls = [threads.submit(host.poll, 6) for _ in range(8)]
        assert all(poll.result(15).status_code == 200 for poll in polls)
    assert threading.active_count() < 100
