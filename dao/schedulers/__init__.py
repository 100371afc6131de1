"""How the learning rate moves over a run: pure arithmetic on the number of the update."""
