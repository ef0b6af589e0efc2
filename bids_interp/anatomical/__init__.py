"""Anatomical processing: from a T1w image to a brain in template space, without nipype."""
