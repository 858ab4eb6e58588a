"""A real-time scoreboard server: one ordered log in PostgreSQL, ranked in Redis, pushed to every browser."""

__version__ = "0.1.0"
