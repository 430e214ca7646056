"""Searching events: the language of queries, and what is asked of Elasticsearch."""
