"""All hosts at a glance: a dense table, nearest to a threshold first."""
