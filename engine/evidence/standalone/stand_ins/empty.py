"""Stands for a package of which nothing is used."""
