"""Graphs of figures of hosts: how they were, from Elasticsearch, and how they go on, from the gateway."""
