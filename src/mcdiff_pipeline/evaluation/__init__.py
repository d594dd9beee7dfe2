"""Measuring a model against simple rivals."""
