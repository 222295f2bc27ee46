"""`srfgan fit` and `demo`: the whole method on one data set beside a plain detector, and the page that shows it."""
