"""Report: metrics become tables and pages.

In: tables of a results folder. Out: CSV files, Markdown, LaTeX, figures, one HTML page. Knows nothing of how scores are computed.
"""
