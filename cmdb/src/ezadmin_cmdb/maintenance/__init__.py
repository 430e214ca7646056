"""Maintenance windows: times in which alerts of some hosts are recorded and nobody is notified."""
