"""What a JSON file may say, and reading it: load, merge, schema, signatures, users' modules."""
