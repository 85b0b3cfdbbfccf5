"""What features are worth, measured without touching them."""
