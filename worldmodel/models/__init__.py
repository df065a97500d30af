"""Networks: encoders, predictors and probes, and the world model made of them."""
