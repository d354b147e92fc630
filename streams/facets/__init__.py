"""Pure: each table's rules, from a Service's objects to its row."""
