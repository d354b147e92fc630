"""All of it on one machine: `facets up`, its broker and the demo."""
