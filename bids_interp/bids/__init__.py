"""What is read from BIDS datasets and what is written in BIDS derivatives."""
