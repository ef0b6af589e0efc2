"""Outputs of a training: report, tables, maps and model card."""
