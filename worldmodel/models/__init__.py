"""Networks: rotary embedding, encoder, predictors, probes."""
