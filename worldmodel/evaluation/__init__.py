"""Evaluation of world models: rollout error, latent probes and energy landscapes."""
