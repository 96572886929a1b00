"""How does one search run?"""
