"""Does a text fit a LIKE pattern?"""
