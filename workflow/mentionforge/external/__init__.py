"""Predictions that other systems made: read, checked against a corpus, and scored like those of the workflow itself."""
