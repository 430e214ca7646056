"""schemathesis over the whole OpenAPI: no odd request ends in an error of ours or an answer that is not described."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from ezadmin_testing.described import KIM, PASSWORD, SAMPLES, application, csrf, empty, make, sign_in
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work

EXAMPLES = 200 if os.environ.get("EZADMIN_FULL") else 3
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WITHOUT_PARTS = re.compile(r"/(metrics/latest|events|text)$|/logs/[a-z]+$|/log-alerts/backtest$")
"""What reads Elasticsearch, which is not there in these tests: that it is said so is a described answer."""


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        app.testing = False  # an error of ours is to be an answer, as it is for users
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for name in SAMPLES:
                for number in (1, 2):
                    make(name, number)
        yield app


def test_the_whole_api(app: Flask) -> None:
    client = sign_in(app, "kim")
    spec = client.get("/api/v1/openapi.json").json
    for path in spec["paths"].values():  # by the cookie of an administrator, who may do more than any token
        for operation in path.values():
            if isinstance(operation, dict):
                operation.pop("security")
    headers = {"X-CSRFToken": csrf(client)}
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    cookies = {cookie.key: cookie.value}
    schema = schemathesis.openapi.from_dict(spec)
    schema.app = app
    wrong: dict[str, str] = {}
    tried, statuses = 0, Counter[int]()
    assert all(
        "default" not in one.definition.raw["responses"]
        for found in schema.get_all_operations()
        for one in [found.ok()]
    )
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seed(20261124)
            @settings(
                max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def attempt(case: Any) -> None:
                nonlocal tried
                tried += 1
                response = case.call(headers=headers, cookies=cookies)
                statuses[response.status_code] += 1
                away = response.status_code == 503 and WITHOUT_PARTS.search(case.operation.path)
                case.validate_response(response, checks=CHECKS[1:] if away else CHECKS)

            try:
                attempt()
            except Unsatisfiable:
                pass  # nothing can be wrong with a request without parameters
            except (Exception, FailureGroup) as error:  # noqa: BLE001 - all that is wrong is told at once
                wrong.setdefault(operation.label, f"{mode.value}: {str(error)[:1500]}")
    print(f"{tried} requests: {statuses}")
    assert tried > 300
    assert not wrong, "\n\n".join(f"{label}\n{text}" for label, text in wrong.items())
