"""The Faust topology: topics and tables as data, and agents that only decode, call the core and write."""
