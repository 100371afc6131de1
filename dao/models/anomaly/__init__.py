"""Anomaly detection: models that learn what good parts look like."""
