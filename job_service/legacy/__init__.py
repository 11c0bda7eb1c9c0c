"""Brings the rows of the former system's tables into ``generation_jobs``, and back."""
