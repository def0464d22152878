"""The `basicsr` command."""
