"""Writes charts and reports as HTML pages. Each page is one file with all data, styles and scripts, and loads nothing.

In: a `Chart`, or an `analysis.report.Report` with its chart. Out: the text of a page, made from a template.

May import: `charts`, `analysis`, `_util`; jinja2 and plotly, when it makes a page.
"""
