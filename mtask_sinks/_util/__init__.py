"""Small tools that know nothing of metrics: warnings that are given once, texts, files, names that load late.

Nothing here imports another part of this library.
"""
