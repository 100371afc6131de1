"""What turns a trained model into a file that runs without this code."""
