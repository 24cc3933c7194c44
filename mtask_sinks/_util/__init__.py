"""Small tools that know nothing of metrics: warnings that are given once, numbers and times as text, files that are
written whole, old names, names that are imported late.

May import: `errors` only.
"""
