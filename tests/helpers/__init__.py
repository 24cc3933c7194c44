"""What several tests need: small models, and readers of what the backends wrote."""
