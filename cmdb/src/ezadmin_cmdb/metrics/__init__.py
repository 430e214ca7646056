"""The newest figures of hosts, as Elasticsearch holds them."""
