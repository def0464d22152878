"""Errors, files, configs, registries and other helpers without knowledge of the task."""
