"""`srfgan reproduce`: every row of a table as one graph of runs, and the report on what came out."""
