"""The database: engine, guarded sessions, the group-commit writer and migrations. Knows no table by name."""
