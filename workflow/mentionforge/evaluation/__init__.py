"""Evaluation: predictions become metrics, overall and out of distribution."""
