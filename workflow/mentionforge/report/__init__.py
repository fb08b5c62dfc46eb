"""Report: metrics become tables and pages."""
