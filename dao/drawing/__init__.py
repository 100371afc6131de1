"""Every picture that we make; numpy, OpenCV and, for letters, Pillow."""
