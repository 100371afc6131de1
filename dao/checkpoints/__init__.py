"""What a run keeps of its model: written whole, read as data and never as code."""
