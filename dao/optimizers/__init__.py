"""Which parameters change how: registered functions (model, *, lr, ...) -> torch.optim.Optimizer."""
