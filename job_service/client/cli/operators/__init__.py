"""The commands of ``genjobs`` for whoever runs the service; they need an admin's token."""
