"""What an operator sees: metrics, and whether this replica lives and is ready, over HTTP."""
