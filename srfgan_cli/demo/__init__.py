"""`srfgan demo`: the whole method on the built-in data in minutes, and a page that shows it."""
