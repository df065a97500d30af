"""Networks: encoders, predictors, probes and the world model."""
