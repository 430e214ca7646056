"""Names with index templates alone: most tests here ask Elasticsearch only, and topics take longer to make."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from ezadmin_pipeline import install
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.names import Names


@pytest.fixture
def bare_names(elastic: ElasticClient) -> Iterator[Names]:
    """An own prefix with its index templates; they and its indices are removed afterwards."""
    names = Names(f"t{secrets.token_hex(5)}")
    install.make_templates(elastic, names)
    yield names
    for index in elastic.request("GET", f"/{names.prefix}-*/_settings", params={"expand_wildcards": "all"})[1]:
        elastic.request("DELETE", f"/{index}")
    for name, _ in install.templates(names):
        elastic.request("DELETE", f"/_index_template/{name}")
        elastic.request("DELETE", f"/_component_template/{install.package(name)}")
