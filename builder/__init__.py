"""Dockerfile in, image out."""
