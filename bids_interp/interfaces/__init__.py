"""Nipype interfaces: thin, each calls functions of the rooms below."""
