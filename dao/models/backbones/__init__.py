"""Feature extractors that several tasks share."""
