"""What happens around train, epoch and iter. Hooks observe; overriding a trainer changes the algorithm."""
