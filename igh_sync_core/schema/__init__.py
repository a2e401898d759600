"""Stored shapes: what tables and views there are to be, and how they come to be."""
