"""What stands where items lack a modality, one file per completion."""
