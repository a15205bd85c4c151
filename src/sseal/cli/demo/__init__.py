"""``sseal demo``: a hub, two users and a page that shows every auth method, on this machine only."""
