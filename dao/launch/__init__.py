"""One process, many processes, many machines: where each runs, what it imports, what must be alike before it starts."""
