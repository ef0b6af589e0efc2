"""From a T1w image to a brain that is placed in the model's template; no nipype in here."""
