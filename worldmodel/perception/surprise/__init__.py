"""Surprise at videos."""
