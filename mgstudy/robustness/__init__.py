"""How a trained model holds: risks to its item features, and the flatness of its minimum."""
