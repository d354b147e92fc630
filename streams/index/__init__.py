"""An index of the past in a file: every record of the tables in its versions, so that a question needs no replay."""
