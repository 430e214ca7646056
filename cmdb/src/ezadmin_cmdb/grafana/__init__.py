"""Grafana on ezadmin's indices: data sources, dashboards, and the commands that bring both to a server.

The dashboards are made by ``grafana/build.py`` in the repository; ``dashboards/`` here is that folder.
"""
