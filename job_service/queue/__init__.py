"""Leasing, heartbeats and rescue: how workers and jobs find and lose each other."""
