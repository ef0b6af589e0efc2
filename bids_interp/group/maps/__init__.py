"""Maps of many subjects: reading, averaging, regions and files."""
