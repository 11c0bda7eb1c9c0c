"""What former rows become, and what they were: the one mapping of every import, as SQL."""
