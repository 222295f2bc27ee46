"""From a detector to COCO results, from results to average precisions, from those to a table."""
