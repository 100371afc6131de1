"""Detectors: backbones, necks and heads that find objects and their boxes."""
