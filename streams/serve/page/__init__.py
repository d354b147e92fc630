"""The page at `/`: plain files, sent as they are. What they show comes from the HTTP interface (`serve/http`)."""
