"""V-JEPA 2 world models: encoder, action-conditioned predictor, training and data."""
