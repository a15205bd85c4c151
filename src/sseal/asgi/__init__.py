"""The HTTP interface: subscribe, publish, auth, admin."""
