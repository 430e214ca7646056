"""Notifications: people are told of alerts, by mail and by calls to the services in which they talk."""
