"""AICore: a vision core for factories. One JSON file says what to do; ``main.py`` does it."""

__version__ = "0.1.0"
