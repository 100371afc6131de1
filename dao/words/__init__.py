"""What is said to people: counts in sentences, names shown safely, tables of numbers."""
