"""Notifications: who is told of which alerts, by mail or by calls to other services."""
