"""``sseal demo``: a hub, two users and a page that shows every way in, on this machine only."""
