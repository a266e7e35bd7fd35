"""Personal data and secrets in text: found by rule, replaced by placeholders, put back."""
