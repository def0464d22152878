"""Several networks on the same images under one protocol: tables, pictures and scores to publish."""
