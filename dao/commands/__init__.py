"""What main.py can do beside a stage: check a config and its data, list components, prove a resume, the quickstart."""
