"""Image to features: one protocol, one registry."""
