"""Pure: the fold of journal records into the tables' rows and seals."""
