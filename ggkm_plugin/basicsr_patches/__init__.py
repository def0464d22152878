"""Replacements for the functions of basicsr 1.4.2 that are broken."""
