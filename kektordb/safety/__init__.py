"""How is a user's data copied, checked, mended and taken elsewhere? Imported when it is first used."""
