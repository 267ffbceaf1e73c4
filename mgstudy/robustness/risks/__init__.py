"""What may happen to item features before or after training, one file per risk."""
