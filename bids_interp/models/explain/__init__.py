"""The explanation of one scan: classify, simulate, realise on any grid, measure."""
