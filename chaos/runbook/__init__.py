"""Runbooks: what is wrong with one before anybody needs it, and a corrected one with measured figures."""
