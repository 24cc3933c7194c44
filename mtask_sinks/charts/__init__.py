"""Curves of trainings, as a picture or as a page: what to draw, and two ways to draw it."""
