"""How are the nearest rows of one query found? Nothing here is for Python."""
