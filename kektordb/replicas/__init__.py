"""How does a database come to hold what another one has written? The public door is `kektordb.replication`."""
