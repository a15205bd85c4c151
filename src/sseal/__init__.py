"""Authenticated server-sent events."""
