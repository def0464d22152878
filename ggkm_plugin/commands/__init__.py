"""Commands of `basicsr` by subject: each module adds its parsers and says what runs them; no torch before they run."""
