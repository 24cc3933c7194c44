"""Helpers for several tests: small models, servers, and readers of the backends' files."""
