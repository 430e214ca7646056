"""Kafka -> Elasticsearch, every event once, counted exactly.

Data flows one way: :mod:`worker` consumes, :mod:`engine` decides, :mod:`indexer` writes, :mod:`commits` remembers.
The promise and why it holds are written in :mod:`ezadmin_pipeline.engine`.
"""

__version__ = "0.1.0"
