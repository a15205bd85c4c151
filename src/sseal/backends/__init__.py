"""What a broker and a store on the same engine share: one file, one connection."""
