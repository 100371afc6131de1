"""What a process knows of itself and its peers: torch.distributed, heartbeats, signals, seeds, what the machine did to it."""
