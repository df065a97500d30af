"""Planning in the latent space of a world model."""
