"""What a layer and a rule are."""
