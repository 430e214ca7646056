"""Alerts: their current state, history and handling."""
