"""Explanation of one scan: classify, simulate, realise on any grid, and measure."""
