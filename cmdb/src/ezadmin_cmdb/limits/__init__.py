"""Limits: thresholds that the pipeline judges, and the hosts that they are for."""
