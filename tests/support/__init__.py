"""What tests share: small makers of values, and a clock that stands still."""
