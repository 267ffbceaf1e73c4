"""What a study asks: its file checked, its cells, their spaces."""
