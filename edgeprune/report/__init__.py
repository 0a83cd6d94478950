"""From measurements to tables and pages; knows nothing that measures."""
