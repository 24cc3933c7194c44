"""Writes charts and reports as HTML pages: one file with all data, styles and scripts, which loads nothing.

In: a `Chart`, or an `analysis.report.Report` with its chart. Out: the text of a page, made from a template.

May import: `charts`, `analysis.report`, `_util`; jinja2 and plotly when a page is made.
"""
