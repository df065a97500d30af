"""Gymnasium environments: a Franka arm on a table, in MuJoCo."""
