"""Small images of look-alike blobs, and datasets of them."""
