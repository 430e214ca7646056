"""Events of hosts, as Elasticsearch holds them."""
