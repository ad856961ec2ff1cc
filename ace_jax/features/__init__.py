"""Feature extractors: one protocol, one registry."""
