"""How thresholds are chosen, from pictures that neither trained the model nor judge it."""
