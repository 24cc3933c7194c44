"""Defines the exception that ends the measurements, with the reason."""

from __future__ import annotations


class NotMeasurable(Exception):
    """Measuring is not safe, or its result would be wrong. The message tells why and what to do."""
