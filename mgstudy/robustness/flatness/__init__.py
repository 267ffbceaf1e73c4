"""How flat the loss is around trained weights."""
