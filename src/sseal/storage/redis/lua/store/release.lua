-- Gives back the lease of an owner, and all under it.
release(ARGV[1])
return 1
