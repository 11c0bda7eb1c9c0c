"""Who waits for what, and how they are woken."""
