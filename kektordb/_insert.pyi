"""How does a row get its links? Nothing here is for Python."""
