"""What is minimised: one file per loss; `weighted_sum.build_loss` turns a config's loss section into a module."""
