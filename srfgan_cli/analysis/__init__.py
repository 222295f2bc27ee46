"""What a detector gets right and wrong: curves, confusions, kinds of errors, and the page that shows them."""
