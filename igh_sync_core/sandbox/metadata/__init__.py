"""Answers about metadata: ``$metadata`` and the definitions."""
