"""Credentials, identities, the rules that connect them. No I/O and no clock."""
