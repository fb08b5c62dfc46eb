"""Predictions of other systems: read, checked against a corpus, and scored like those of the workflow itself."""
