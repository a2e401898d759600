"""The Web API: requests, pages and their limits, over the one HTTP stack."""
