"""The database itself, SQLite or PostgreSQL alike: connections, statements, the lock, what is remembered."""
