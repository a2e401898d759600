"""What a sandbox holds: an organisation, its tables and their rows."""
