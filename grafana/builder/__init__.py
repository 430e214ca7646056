"""What the dashboards are made of; ``grafana/build.py`` writes them."""
