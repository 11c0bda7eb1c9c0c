"""Tables and SQL: everything the service says to PostgreSQL."""
