"""Fixtures for every test; each kind in a module of its own."""

pytest_plugins = ["tests.postgres_fixture", "tests.service_fixture"]
